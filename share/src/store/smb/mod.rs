//! The backend for SMB 2 and 3, over the `smb2` crate, in this process: nothing is mounted.
//!
//! ```text
//! objects      exclusive create at the final name, write, flush, close; the length is that which the server has then
//! log, FORMAT  complete temporary below log/, flushed and read back, then a link to it; where the server has no links,
//!              exclusive create at the final name
//! sessions     up to four connections, dialed when needed; NTLM; signed, or refused
//! ```
//!
//! It never replaces a file, never makes the share or its folder again, and repeats nothing by itself: a call whose
//! session dies fails with a transient error, and the next call dials. [`super::retry`] and [`super::timeout`] do for all
//! backends alike.

mod error;
mod listing;
mod new_file;
mod pool;
mod publish;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU8;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use smb2::{ErrorKind, FileInfo};

use super::address::SmbAddress;
use super::secret::SmbSecret;
use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};
use error::{Access, classify, lacks_folder};
use pool::{Lease, Pool};
use publish::Way;

/// One request of a read.
const PIECE: u64 = 1 << 20;

/// A share on an SMB server.
pub(super) struct SmbStore {
    pool: Pool,
    /// [`Way::number`] of that by which slots of the log appear; 0 before the first.
    way: AtomicU8,
    /// The first folders that this process has made on the share, those above before those below.
    made: Mutex<Vec<String>>,
}

impl SmbStore {
    /// The share at this address. Its folder must be there.
    ///
    /// # Errors
    /// `Denied` without credentials or with wrong ones, `InvalidPath` when share or folder are not there.
    pub(super) async fn open(
        address: SmbAddress,
        credentials: Option<&Credentials>,
    ) -> Result<Self, OpenStoreError> {
        let store = Self::new(address, credentials)?;
        let lease = store.pool.lease().await?;
        store.present(&lease).await?;
        drop(lease);
        Ok(store)
    }

    /// Like [`open`](Self::open), and makes the folder, not its parents, when it is not there.
    ///
    /// # Errors
    /// Those of `open`, and when the folder cannot be made.
    pub(super) async fn create(
        address: SmbAddress,
        credentials: Option<&Credentials>,
    ) -> Result<Self, OpenStoreError> {
        let store = Self::new(address, credentials)?;
        let lease = store.pool.lease().await?;
        let folder = store.path("");
        if !folder.is_empty() {
            let made = lease.tree().create_directory(&mut lease.connection(), &folder).await;
            match made {
                Ok(()) => {}
                // Some servers refuse the create of a folder that is there for want of rights.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let reason = "the folder that it should be made in is not there".to_owned();
                    return Err(StoreError::InvalidPath { path: store.describe(), reason }.into());
                }
                Err(error) => {
                    return Err(store.failed(&lease, store.describe(), Access::Write, error).into());
                }
            }
        }
        store.present(&lease).await?;
        drop(lease);
        Ok(store)
    }

    fn new(address: SmbAddress, credentials: Option<&Credentials>) -> Result<Self, OpenStoreError> {
        let Some(credentials) = credentials else {
            let why = "no credentials: name the file with username and password in [share] credentials";
            return Err(
                StoreError::Denied { path: address.to_string(), source: io::Error::other(why) }.into()
            );
        };
        let secret = SmbSecret::parse(credentials.expose())?;
        Ok(Self { pool: Pool::new(address, secret), way: AtomicU8::new(0), made: Mutex::default() })
    }

    /// What the library calls `name` below the share's folder; of the empty name, the folder.
    fn path(&self, name: &str) -> String {
        match (self.pool.address().folder.as_str(), name) {
            (folder, "") => folder.to_owned(),
            ("", name) => name.to_owned(),
            (folder, name) => format!("{folder}/{name}"),
        }
    }

    /// What errors call `name`.
    fn shown(&self, name: &str) -> String {
        if name.is_empty() { self.describe() } else { name.to_owned() }
    }

    /// Whether the share's folder is there. The server tells the same of an object without it, and of one below it that
    /// is not there.
    async fn present(&self, lease: &Lease<'_>) -> Result<(), StoreError> {
        let folder = self.path("");
        if folder.is_empty() {
            return Ok(());
        }
        let invalid =
            |reason: &str| StoreError::InvalidPath { path: self.describe(), reason: reason.to_owned() };
        match lease.tree().stat(&mut lease.connection(), &folder).await {
            Ok(info) if info.is_directory => Ok(()),
            Ok(_) => Err(invalid("it is no folder")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(invalid("the folder is not on the share"))
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => Err(invalid("it is below a file")),
            Err(error) => Err(self.failed(lease, self.describe(), Access::Read, error)),
        }
    }

    /// The error of a call, of which the session takes note.
    fn failed(&self, lease: &Lease<'_>, path: String, access: Access, error: smb2::Error) -> StoreError {
        lease.note(&error);
        classify(path, access, error)
    }

    /// The same for a call on an object, whose absence may be that of the whole share.
    async fn explain(&self, lease: &Lease<'_>, path: &str, access: Access, error: smb2::Error) -> StoreError {
        if lacks_folder(&error)
            && let Err(absent) = self.present(lease).await
        {
            return absent;
        }
        self.failed(lease, path.to_owned(), access, error)
    }

    /// These bytes of an object, or all of them if they are `most` at most.
    async fn read(
        &self,
        lease: &Lease<'_>,
        name: &str,
        range: Option<Range<u64>>,
        most: u64,
    ) -> Result<Bytes, StoreError> {
        let opened = lease.tree().open_file_reader(lease.connection(), &self.path(name)).await;
        // It is closed when it is dropped, without waiting for an answer.
        let file = match opened {
            Ok(file) => file,
            Err(error) => return Err(self.explain(lease, name, Access::Read, error).await),
        };
        let have = plain(name, file.info())?;
        let range = match range {
            Some(range) if range.end > have => {
                let what = format!("it has {have} bytes, {} are wanted", range.end);
                return Err(StoreError::Damaged { path: name.to_owned(), what });
            }
            Some(range) => range,
            None if have > most => return Err(StoreError::TooLong { path: name.to_owned(), have, most }),
            None => 0..have,
        };
        let wanted = range.end.saturating_sub(range.start);
        let pieces = (0..wanted.div_ceil(PIECE)).map(|nth| range.start + nth * PIECE);
        let mut parts = stream::iter(pieces)
            .map(|at| file.read_at(at, PIECE.min(range.end - at)))
            .buffered(new_file::AHEAD);
        let mut bytes = BytesMut::with_capacity(usize::try_from(wanted).unwrap_or(0));
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| self.failed(lease, name.to_owned(), Access::Read, error))?;
            bytes.extend_from_slice(&part);
        }
        if bytes.len() as u64 == wanted {
            Ok(bytes.freeze())
        } else {
            // It shrank while it was read, which nobody of ours does.
            Err(StoreError::Io { path: name.to_owned(), source: io::ErrorKind::UnexpectedEof.into() })
        }
    }
}

/// The length of what is a plain file.
fn plain(name: &str, info: &FileInfo) -> Result<u64, StoreError> {
    if info.is_directory || info.is_link() {
        return Err(StoreError::Damaged { path: name.to_owned(), what: "it is no plain file".to_owned() });
    }
    Ok(info.size)
}

impl fmt::Debug for SmbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmbStore").field("address", self.pool.address()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SmbStore {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        if path.is_contended() {
            self.publish(path, &bytes).await
        } else {
            self.create_object(path, &bytes).await
        }
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        let lease = self.pool.lease().await?;
        self.read(&lease, &path.to_string(), None, max_len).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let lease = self.pool.lease().await?;
        self.read(&lease, &path.to_string(), Some(range), 0).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        let (lease, name) = (self.pool.lease().await?, path.to_string());
        match lease.tree().stat(&mut lease.connection(), &self.path(&name)).await {
            Ok(info) => Ok(Meta { size: plain(&name, &info)?, modified: info.modified.to_system_time() }),
            Err(error) => Err(self.explain(&lease, &name, Access::Read, error).await),
        }
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        listing::list(self, prefix)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let (lease, name) = (self.pool.lease().await?, path.to_string());
        match lease.tree().delete_file(&mut lease.connection(), &self.path(&name)).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(&lease, &name, Access::Write, error).await),
        }
    }

    async fn tidy(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let Ok(lease) = self.pool.lease().await else { return };
        for folder in made.iter().rev() {
            // The server refuses for one that holds something, as it should.
            let gone = lease.tree().delete_directory(&mut lease.connection(), &self.path(folder)).await;
            drop(gone);
        }
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let lease = self.pool.lease().await?;
        match lease.tree().fs_info(&mut lease.connection()).await {
            Ok(room) => Ok(Some(room.free_bytes)),
            Err(error) => Err(self.failed(&lease, self.describe(), Access::Read, error)),
        }
    }

    /// Sessions under way end with the calls that use them.
    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.pool.replace(SmbSecret::parse(credentials.expose())?);
        Ok(true)
    }

    fn exclusive(&self) -> Exclusive {
        match self.way() {
            None => Exclusive::Untested,
            Some(Way::Link) => Exclusive::Atomic,
            Some(Way::Plain) => Exclusive::OneCoordinator,
        }
    }

    fn describe(&self) -> String {
        self.pool.address().to_string()
    }
}
