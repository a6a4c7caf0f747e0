//! The highest log head that this machine has seen, in a small file of its own: a share that goes back is noticed.

use std::io::Write;
use std::path::{Path, PathBuf};

use muster_protocol::ids::ObjectId;
use muster_protocol::log::Head;

/// Why the memory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file cannot be read or written.
    #[error("{} cannot be {doing}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} does not read <number>:<hash>; the head is printed by `muster show`, write that or remove the file", path.display())]
    Text {
        /// The file.
        path: PathBuf,
    },
}

/// The file that remembers a head.
#[derive(Debug, Clone)]
pub struct HeadMemory {
    path: PathBuf,
}

/// The head in a text as screens print it, `<number>:<hash>`.
#[must_use]
pub fn parse_head(text: &str) -> Option<Head> {
    let (number, hash) = text.trim().split_once(':')?;
    Some(Head { number: number.parse().ok()?, hash: hash.parse::<ObjectId>().ok()? })
}

impl HeadMemory {
    /// The memory in this file, which need not exist yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The head that was remembered, if any.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn recall(&self) -> Result<Option<Head>, MemoryError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => match parse_head(&text) {
                Some(head) => Ok(Some(head)),
                None => Err(MemoryError::Text { path: self.path.clone() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MemoryError::Io { path: self.path.clone(), doing: "read", source }),
        }
    }

    /// Remembers `head`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&self, head: &Head) -> Result<(), MemoryError> {
        let write = || -> std::io::Result<()> {
            let temporary = self.path.with_extension("tmp");
            let mut file = std::fs::File::create(&temporary)?;
            writeln!(file, "{head}")?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)
        };
        write().map_err(|source| MemoryError::Io { path: self.path.clone(), doing: "written", source })
    }
}
