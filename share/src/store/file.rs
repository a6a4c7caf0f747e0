//! The file backend: a local folder or a mounted network share.
//!
//! ```text
//! objects      exclusive create at the final name, write, fsync, fsync of the folder
//! log, FORMAT  complete fsynced temporary below log/, then link(2); where the file system has no hard links,
//!              renameat2(RENAME_NOREPLACE); where it has neither, exclusive create at the final name
//! ```
//!
//! It never replaces a file, never follows a symbolic link below the share, and never makes the share's own folder
//! again: where a mount vanished, nothing is written to the empty mount point.

mod listing;
mod publish;
mod system;

use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};
use publish::Publisher;
use system::{Access, classify, sync_folder};

const FOLDER_MODE: u32 = 0o750;
/// Folders of which it is remembered that they were made: those of a test of the share, not those of years.
const MOST_MADE: usize = 8;

/// A share in a folder.
#[derive(Debug, Clone)]
pub struct FileStore {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Device number of the file system the share was last seen on.
    device: AtomicU64,
    publisher: Publisher,
    /// The first folders that this process has made below the share, those above before those below.
    made: Mutex<Vec<PathBuf>>,
}

impl FileStore {
    /// The share in this folder.
    ///
    /// # Errors
    /// `Unreachable` when nothing is there, `InvalidPath` when it is no folder.
    pub async fn open(root: PathBuf) -> Result<Self, StoreError> {
        let name = root.display().to_string();
        blocking(name.clone(), move || {
            let meta = fs::metadata(&root).map_err(|error| classify(name.clone(), Access::Enter, error))?;
            if !meta.is_dir() {
                return Err(StoreError::InvalidPath { path: name, reason: "it is no folder".to_owned() });
            }
            let device = AtomicU64::new(meta.dev());
            Ok(Self {
                folder: Arc::new(Folder {
                    root,
                    device,
                    publisher: Publisher::default(),
                    made: Mutex::default(),
                }),
            })
        })
        .await
    }

    /// Like [`open`](Self::open), and makes the folder, not its parents, when it is not there.
    ///
    /// # Errors
    /// Those of `open`, and when the folder cannot be made.
    pub async fn create(root: PathBuf) -> Result<Self, StoreError> {
        let made = root.clone();
        let name = root.display().to_string();
        blocking(name.clone(), move || match make_folder(&made) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(classify(name, Access::Write, error)),
        })
        .await?;
        Self::open(root).await
    }

    async fn on_folder<T: Send + 'static>(
        &self,
        path: &ObjectPath,
        access: Access,
        call: impl FnOnce(&Folder, &Path) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.folder);
        let path = path.to_string();
        blocking(path.clone(), move || {
            let file = folder.root.join(&path);
            call(&folder, &file).map_err(|failure| folder.explain(path, access, failure))
        })
        .await
    }
}

/// What a blocking call reports before it is known whether the share is there at all.
enum Failure {
    System(io::Error),
    Taken,
    TooLong { have: u64, most: u64 },
    Damaged(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Folder {
    /// Whether the share is there: its folder exists and is either on the file system where it was last seen, or on
    /// another one with a `FORMAT` (mounted again). An empty mount point is neither.
    fn present(&self) -> io::Result<()> {
        let device = fs::metadata(&self.root)?.dev();
        if device != self.device.load(Ordering::Relaxed) {
            fs::symlink_metadata(self.root.join(ObjectPath::Format.to_string()))?;
            self.device.store(device, Ordering::Relaxed);
        }
        Ok(())
    }

    fn explain(&self, path: String, access: Access, failure: Failure) -> StoreError {
        match failure {
            Failure::Taken => StoreError::AlreadyExists { path },
            Failure::TooLong { have, most } => StoreError::TooLong { path, have, most },
            Failure::Damaged(what) => StoreError::Damaged { path, what },
            Failure::System(error) if error.kind() == io::ErrorKind::NotFound => match self.present() {
                Ok(()) => StoreError::NotFound { path },
                Err(error) => classify(path, Access::Enter, error),
            },
            Failure::System(error) => classify(path, access, error),
        }
    }

    /// Makes `folder` and those between it and the share, each made durable by its parent.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        let below = folder.strip_prefix(&self.root).map_err(io::Error::other)?;
        let mut parent = self.root.clone();
        for part in below {
            let folder = parent.join(part);
            match make_folder(&folder) {
                Ok(()) => {
                    let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                    if made.len() < MOST_MADE {
                        made.push(folder.clone());
                    }
                    drop(made);
                    sync_folder(&parent)?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            parent = folder;
        }
        Ok(())
    }

    fn put_new(&self, file: &Path, bytes: &[u8], contended: bool) -> Result<(), Failure> {
        self.present()?;
        if contended {
            let temporaries = self.root.join(Prefix::Log.to_string());
            self.make_folders(&temporaries)?;
            if let Some(parent) = file.parent().filter(|parent| **parent != temporaries) {
                self.make_folders(parent)?;
            }
            self.publisher.publish(&temporaries, file, bytes)
        } else {
            match publish::create_object(file, bytes) {
                Err(Failure::System(error)) if error.kind() == io::ErrorKind::NotFound => {
                    self.make_folders(file.parent().unwrap_or(&self.root))?;
                    publish::create_object(file, bytes)
                }
                done => done,
            }
        }
    }
}

#[async_trait]
impl Store for FileStore {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        let contended = path.is_contended();
        self.on_folder(path, Access::Write, move |folder, file| folder.put_new(file, &bytes, contended)).await
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        self.on_folder(path, Access::Enter, move |_, file| {
            let (file, size) = open_file(file)?;
            if size > max_len {
                return Err(Failure::TooLong { have: size, most: max_len });
            }
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            let have = file.take(max_len.saturating_add(1)).read_to_end(&mut bytes)? as u64;
            if have > max_len {
                return Err(Failure::TooLong { have, most: max_len });
            }
            Ok(Bytes::from(bytes))
        })
        .await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.on_folder(path, Access::Enter, move |_, file| {
            let (file, size) = open_file(file)?;
            let short = || Failure::Damaged(format!("it has {size} bytes, {} are wanted", range.end));
            if range.end > size {
                return Err(short());
            }
            let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| short())?;
            let mut bytes = vec![0; len];
            match file.read_exact_at(&mut bytes, range.start) {
                Ok(()) => Ok(Bytes::from(bytes)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(short()),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        self.on_folder(path, Access::Enter, |_, file| {
            let meta = fs::symlink_metadata(file)?;
            if meta.is_file() {
                Ok(Meta { size: meta.len(), modified: meta.modified().ok() })
            } else {
                Err(no_file())
            }
        })
        .await
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        listing::list(Arc::clone(&self.folder), prefix)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.on_folder(path, Access::Write, |_, file| {
            fs::remove_file(file)?;
            if let Some(parent) = file.parent() {
                sync_folder(parent)?;
            }
            Ok(())
        })
        .await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let folder = Arc::clone(&self.folder);
        let name = self.describe();
        blocking(name.clone(), move || {
            let room = folder.present().and_then(|()| Ok(rustix::fs::statvfs(&folder.root)?));
            let room = room.map_err(|error| classify(name, Access::Enter, error))?;
            Ok(Some(room.f_bavail.saturating_mul(room.f_frsize)))
        })
        .await
    }

    /// Pages of a mounted share are remembered by this machine, too; those of a file that is on the disk can be dropped.
    async fn cool(&self, path: &ObjectPath) {
        let cooled = self.on_folder(path, Access::Enter, |_, file| {
            let (file, _) = open_file(file)?;
            Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(io::Error::from)?)
        });
        drop(cooled.await);
    }

    async fn tidy(&self) {
        let folder = Arc::clone(&self.folder);
        let tidied = blocking(self.describe(), move || {
            let made = std::mem::take(&mut *folder.made.lock().unwrap_or_else(PoisonError::into_inner));
            for folder in made.iter().rev() {
                // One that holds something stays, as it should.
                let _ = fs::remove_dir(folder);
            }
            Ok(())
        });
        drop(tidied.await);
    }

    /// The mount has its own.
    fn accept(&self, _credentials: &Credentials) -> Result<bool, OpenStoreError> {
        Ok(false)
    }

    fn exclusive(&self) -> Exclusive {
        self.folder.publisher.exclusive()
    }

    fn describe(&self) -> String {
        self.folder.root.display().to_string()
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(FOLDER_MODE).create(folder)
}

fn no_file() -> Failure {
    Failure::Damaged("it is no plain file".to_owned())
}

fn open_file(path: &Path) -> Result<(fs::File, u64), Failure> {
    match system::open_read(path) {
        Ok(file) => {
            let meta = file.metadata()?;
            if meta.is_file() { Ok((file, meta.len())) } else { Err(no_file()) }
        }
        Err(error) if system::is_symlink(&error) => Err(no_file()),
        Err(error) => Err(error.into()),
    }
}

async fn blocking<T: Send + 'static>(
    path: String,
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(lost) => Err(StoreError::Io { path, source: io::Error::other(lost) }),
    }
}

#[cfg(test)]
mod tests;
