//! How objects and slots of the log come to be.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use muster_protocol::entropy::random;
use muster_protocol::ids::hex;
use smb2::ErrorKind;

use super::SmbStore;
use super::error::{Access, has_no_links, lacks_folder};
use super::new_file::NewFile;
use super::pool::Lease;
use crate::entropy::OsEntropy;
use crate::layout::{ObjectPath, Prefix, TEMPORARY};
use crate::store::{Store, StoreError};

/// Folders of which it is remembered that they were made: those of a test of the share, not those of years.
const MOST_MADE: usize = 8;

impl SmbStore {
    /// Creates an object whose name is its hash. A torn one is harmless: its length or hash betrays it.
    pub(super) async fn create_object(&self, path: &ObjectPath, bytes: &Bytes) -> Result<(), StoreError> {
        let lease = self.pool.lease().await?;
        let name = path.to_string();
        let failed = |error| self.failed(&lease, name.clone(), Access::Write, error);
        let file = self.create_file(&lease, &name, &name).await?;
        let written = async {
            file.write(bytes).await?;
            file.flush().await
        };
        if let Err(error) = written.await {
            // The file is ours alone: this call created it. A full share gets its room back.
            file.take_back().await;
            return Err(failed(error));
        }
        let closed = file.close().await;
        self.complete(&lease, &name, bytes, closed)
    }

    /// Creates a slot that several writers may race for: whole or not at all, and never another's. Own bytes in it are
    /// success, whoever put them there.
    pub(super) async fn publish(&self, path: &ObjectPath, bytes: &Bytes) -> Result<(), StoreError> {
        let lease = self.pool.lease().await?;
        let name = path.to_string();
        match self.holds(&lease, &name, bytes).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(StoreError::AlreadyExists { path: name }),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        if self.way() != Some(Way::Plain) {
            match self.publish_link(&lease, &name, bytes).await? {
                Linked::Done => {
                    self.way.store(Way::Link.number(), Ordering::Relaxed);
                    return Ok(());
                }
                Linked::Unsupported => {}
            }
        }
        self.publish_plain(&lease, &name, bytes).await?;
        self.way.store(Way::Plain.number(), Ordering::Relaxed);
        Ok(())
    }

    /// A complete temporary, and a link to it: the slot is whole from its first moment. (Not a rename: Samba looks whether
    /// the new name is taken and renames then, so that two racers may both be told that they won.)
    async fn publish_link(&self, lease: &Lease<'_>, name: &str, bytes: &Bytes) -> Result<Linked, StoreError> {
        let failed = |error| self.failed(lease, name.to_owned(), Access::Write, error);
        let temporary = format!("{}{TEMPORARY}{}", Prefix::Log, hex(&random::<8>(&mut OsEntropy)));
        let file = self.create_file(lease, &temporary, name).await?;
        let written = self.fill(&file, lease, name, bytes).await;
        let linked = match &written {
            // The name as well as the bytes.
            Ok(()) => {
                let mut linked = file.link(&self.path(name)).await;
                if linked.as_ref().is_err_and(lacks_folder) {
                    // The temporary lies in log/, the slot elsewhere.
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    if let Err(error) = self.make_folders(lease, folder).await {
                        file.take_back().await;
                        return Err(error);
                    }
                    linked = file.link(&self.path(name)).await;
                }
                match linked {
                    Ok(()) => Ok(file.flush().await),
                    Err(error) => Err(error),
                }
            }
            Err(_) => Ok(Ok(())),
        };
        file.take_back().await;
        written?;
        let error = match linked {
            Ok(flushed) => return flushed.map(|()| Linked::Done).map_err(failed),
            Err(error) => error,
        };
        let (taken, unsupported) = (error.kind() == ErrorKind::AlreadyExists, has_no_links(&error));
        let error = failed(error);
        match self.holds(lease, name, bytes).await {
            Ok(true) => Ok(Linked::Done),
            Ok(false) if taken => Err(StoreError::AlreadyExists { path: name.to_owned() }),
            Err(StoreError::NotFound { .. }) if unsupported => Ok(Linked::Unsupported),
            Ok(false) | Err(_) => Err(error),
        }
    }

    /// Exclusive create at the final name: one racer wins, but what is cut off leaves a torn slot.
    async fn publish_plain(&self, lease: &Lease<'_>, name: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let mut file = self.create_file(lease, name, name).await?;
        file.make_public();
        self.fill(&file, lease, name, bytes).await?;
        let closed = file.close().await;
        self.complete(lease, name, bytes, closed)
    }

    /// Writes everything, flushes, and reads it back.
    async fn fill(
        &self,
        file: &NewFile,
        lease: &Lease<'_>,
        name: &str,
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        let filled = async {
            file.write(bytes).await?;
            file.flush().await?;
            file.holds(bytes).await
        };
        match filled.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(lost(name, "does not hold what was written")),
            Err(error) => Err(self.failed(lease, name.to_owned(), Access::Write, error)),
        }
    }

    /// Whether what was closed has its length.
    fn complete(
        &self,
        lease: &Lease<'_>,
        name: &str,
        bytes: &Bytes,
        closed: Result<u64, smb2::Error>,
    ) -> Result<(), StoreError> {
        let have = closed.map_err(|error| self.failed(lease, name.to_owned(), Access::Write, error))?;
        if have == bytes.len() as u64 {
            Ok(())
        } else {
            Err(lost(name, &format!("has {have} of {} bytes", bytes.len())))
        }
    }

    /// Creates this file, and folders that it lacks. Errors name `shown`.
    async fn create_file(&self, lease: &Lease<'_>, name: &str, shown: &str) -> Result<NewFile, StoreError> {
        let path = self.path(name);
        let failed = |error| self.failed(lease, shown.to_owned(), Access::Write, error);
        match NewFile::create(lease, &path).await {
            Ok(file) => Ok(file),
            Err(error) if lacks_folder(&error) => {
                self.make_folders(lease, name.rsplit_once('/').map_or("", |(folder, _)| folder)).await?;
                NewFile::create(lease, &path).await.map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes this folder and those between it and the share's folder, which itself is never made.
    async fn make_folders(&self, lease: &Lease<'_>, folder: &str) -> Result<(), StoreError> {
        let mut missing = vec![folder];
        while let Some(folder) = missing.last() {
            if folder.is_empty() {
                self.present(lease).await?;
                // It was not there a moment ago, or it is the share itself that the server has lost.
                let reason = "the folder is not on the share".to_owned();
                return Err(StoreError::InvalidPath { path: self.describe(), reason });
            }
            let made = lease.tree().create_directory(&mut lease.connection(), &self.path(folder)).await;
            match made {
                Ok(()) => {
                    let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                    if made.len() < MOST_MADE {
                        made.push((*folder).to_owned());
                    }
                    drop(made);
                    missing.pop();
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    missing.pop();
                }
                Err(error) if lacks_folder(&error) && missing.len() <= folder.len() => {
                    missing.push(folder.rsplit_once('/').map_or("", |(parent, _)| parent));
                }
                Err(error) => {
                    return Err(self.failed(lease, (*folder).to_owned(), Access::Write, error));
                }
            }
        }
        Ok(())
    }

    /// Whether the object is exactly these bytes. Something that is no file is others.
    async fn holds(&self, lease: &Lease<'_>, name: &str, bytes: &Bytes) -> Result<bool, StoreError> {
        match self.read(lease, name, None, bytes.len() as u64).await {
            Ok(there) => Ok(there == *bytes),
            Err(StoreError::TooLong { .. } | StoreError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn lost(path: &str, what: &str) -> StoreError {
    let source = io::Error::other(format!("the server {what}"));
    StoreError::Io { path: path.to_owned(), source }
}

/// How slots of the log appear on this share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Link,
    Plain,
}

impl Way {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Link => 1,
            Self::Plain => 2,
        }
    }
}

enum Linked {
    Done,
    Unsupported,
}

impl SmbStore {
    /// That which worked last; none before the first slot.
    pub(super) fn way(&self) -> Option<Way> {
        let way = self.way.load(Ordering::Relaxed);
        [Way::Link, Way::Plain].into_iter().find(|known| known.number() == way)
    }
}
