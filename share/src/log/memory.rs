//! The highest log head that this machine has seen, in a small file of its own: a share that goes back is noticed.
//!
//! ```text
//! <number>:<hash>\n
//! adopts <how many adopt statements were in effect>\n        absent: 0
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Head, Seen};

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

    /// What was remembered, if anything.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn recall(&self) -> Result<Option<Seen>, MemoryError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => match parse(&text) {
                Some(seen) => Ok(Some(seen)),
                None => Err(MemoryError::Text { path: self.path.clone() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MemoryError::Io { path: self.path.clone(), doing: "read", source }),
        }
    }

    /// Remembers `seen`, whole or not at all, unless more was remembered meanwhile: by another command of the same member.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&self, seen: &Seen) -> Result<(), MemoryError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = self.path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        let write = || -> std::io::Result<()> {
            // The folder itself is locked: the file in it is replaced.
            let folder = File::open(self.path.parent().unwrap_or(Path::new(".")))?;
            folder.lock()?;
            let more = |known: Seen| {
                known.adopts > seen.adopts
                    || (known.adopts == seen.adopts && known.head.number > seen.head.number)
            };
            if self.recall().ok().flatten().is_some_and(more) {
                return Ok(());
            }
            let mut file = File::create(&temporary)?;
            file.write_all(print(seen).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)
        };
        write().map_err(|source| {
            // It has not taken the place; the first error is the one that helps.
            drop(std::fs::remove_file(&temporary));
            MemoryError::Io { path: self.path.clone(), doing: "written", source }
        })
    }
}

/// The text of a memory, for a file that is made together with others.
#[must_use]
pub fn print(seen: &Seen) -> String {
    match seen.adopts {
        0 => format!("{}\n", seen.head),
        adopts => format!("{}\nadopts {adopts}\n", seen.head),
    }
}

fn parse(text: &str) -> Option<Seen> {
    let (head, rest) = text.trim_end().split_once('\n').unwrap_or((text, ""));
    let adopts = match rest {
        "" => 0,
        line => line.strip_prefix("adopts ")?.parse().ok()?,
    };
    Some(Seen { head: parse_head(head)?, adopts })
}
