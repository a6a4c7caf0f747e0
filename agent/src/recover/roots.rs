//! Where the folders of sources lie: beneath one folder, or where each was captured.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::write::{Root, WriteError, Writer};

/// Where the folders of sources lie.
#[derive(Debug)]
pub(crate) enum Roots {
    /// Each beneath this folder, by its name.
    Beneath {
        /// The folder, open.
        handle: OwnedFd,
        /// Its path, for messages.
        path: PathBuf,
    },
    /// Each in a place of its own, by the source's name.
    Own(BTreeMap<String, OwnRoot>),
}

/// What a source was captured from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnRoot {
    /// A folder with all beneath it; made if it is absent.
    Folder(PathBuf),
    /// A single file in this folder, which itself is nobody's.
    FileIn(PathBuf),
}

impl Roots {
    /// Each beneath `path`, which is made if it is absent; only its owner may look into it then.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub(crate) fn beneath(path: &Path) -> Result<Self, WriteError> {
        let (handle, _) = folder(path)?;
        Ok(Self::Beneath { handle, path: path.to_owned() })
    }

    /// Opens the folder of a source.
    pub(super) fn open(&self, writer: &Writer, source: &str) -> Result<Arc<Root>, WriteError> {
        match self {
            Self::Beneath { handle, path } => writer.root(handle, path, source),
            Self::Own(roots) => match roots.get(source) {
                Some(OwnRoot::Folder(path)) => {
                    let (handle, made) = folder(path)?;
                    Ok(writer.root_at(handle, path.clone(), source, made))
                }
                Some(OwnRoot::FileIn(path)) => {
                    let (handle, _) = folder(path)?;
                    Ok(writer.foreign_root(handle, path.clone(), source))
                }
                None => {
                    let error = io::Error::other("it has no place");
                    Err(WriteError::System { path: PathBuf::from(source), doing: "placing", error })
                }
            },
        }
    }
}

/// Opens a folder whose path is configured, and so followed through links as a capture follows it; tells whether it had
/// to be made.
fn folder(path: &Path) -> Result<(OwnedFd, bool), WriteError> {
    let failed = |doing| move |error: io::Error| WriteError::System { path: path.to_owned(), doing, error };
    let made = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(failed("creating the folders above"))?;
            }
            DirBuilder::new().mode(0o700).create(path).map_err(failed("creating"))?;
            true
        }
        there => {
            there.map_err(failed("reading"))?;
            false
        }
    };
    let real = fs::canonicalize(path).map_err(failed("opening"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle =
        rustix::fs::open(&real, flags, Mode::empty()).map_err(|errno| failed("opening")(errno.into()))?;
    Ok((handle, made))
}
