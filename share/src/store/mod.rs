//! Stores: how bytes get to a share and back. A small trait, one backend per kind of share, and decorators over it
//! ([`retry`], [`timeout`], [`faults`]).
//!
//! A store knows paths and bytes, never what they mean. It never overwrites: there is no call that could.

mod error;
pub mod faults;
mod file;
pub mod retry;
pub mod timeout;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};

pub use error::StoreError;
pub use file::FileStore;

/// What the share says of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Length in bytes.
    pub size: u64,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object.
    Object {
        /// Where it is.
        path: ObjectPath,
        /// Its length in bytes.
        size: u64,
    },
    /// A name that is none of the layout's: an unfinished temporary, or something that is not ours. Never touched.
    Foreign {
        /// Its path below the share, invalid UTF-8 replaced.
        name: String,
    },
}

/// How a store makes sure that only one of several writers gets a slot of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    /// Not known before the first record is written.
    Untested,
    /// The slot appears whole, and only one racer can win.
    Atomic,
    /// Only one racer can win, but a crash leaves a torn slot and the share may lie: keep to one coordinator.
    OneCoordinator,
}

/// A share. Every call is safe to run concurrently with every other one.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Writes a new object durably. Objects are never overwritten; a slot that several writers race for
    /// ([`ObjectPath::is_contended`]) appears whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when the name is taken (for the log: by other bytes than these). After any other
    /// error the object may exist whole, torn, or not at all: [`settle`] tells which.
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError>;

    /// The whole object, of at most `max_len` bytes.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] before anything is read when it is longer.
    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError>;

    /// Exactly these bytes of the object.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the object ends before the range does.
    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// What the share says of the object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and those of the transport.
    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError>;

    /// Everything below `prefix`, in no order, in bounded memory. A folder that is not there is empty. After an error
    /// the stream ends: a listing that ends without one is complete.
    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>>;

    /// Removes an object. Only the pruner's credential should be able to.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is gone already.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError>;

    /// Bytes that may still be written, where the share tells.
    ///
    /// # Errors
    /// Those of the transport.
    async fn free_bytes(&self) -> Result<Option<u64>, StoreError>;

    /// Takes these credentials for the calls that follow. False: this kind of share needs none, and they are forgotten.
    fn accept(&self, credentials: &Credentials) -> bool;

    /// What is known of how log slots are created.
    fn exclusive(&self) -> Exclusive;

    /// The share's address, without secrets, for screens.
    fn describe(&self) -> String;
}

/// Why an address opens no share.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// A scheme that this build has no backend for.
    #[error("shares of the kind {scheme:?} are not supported yet: mount the share and name it by its path")]
    NotSupported {
        /// The scheme.
        scheme: String,
    },
    /// Neither an absolute path nor an address.
    #[error("{url:?} names no share: give an absolute path or file:///path")]
    Address {
        /// What was given.
        url: String,
    },
    /// The backend refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenStoreError {
    /// Whether waiting may mend it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotSupported { .. } | Self::Address { .. } => false,
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// The share at `url`: an absolute path or `file:///path` of a folder that exists.
///
/// # Errors
/// When the address is of another kind, or no folder is there.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, OpenStoreError> {
    Ok(Arc::new(FileStore::open(folder(url)?).await?))
}

/// Like [`open`], and makes the folder (not its parents) when it is not there.
///
/// # Errors
/// Those of [`open`], and when the folder cannot be made.
pub async fn create(url: &str) -> Result<Arc<dyn Store>, OpenStoreError> {
    Ok(Arc::new(FileStore::create(folder(url)?).await?))
}

fn folder(url: &str) -> Result<PathBuf, OpenStoreError> {
    let bad = || OpenStoreError::Address { url: url.to_owned() };
    let path = match url.split_once("://") {
        Some(("file", rest)) => unescape(rest).ok_or_else(bad)?,
        Some((scheme, _)) => return Err(OpenStoreError::NotSupported { scheme: scheme.to_owned() }),
        None => url.to_owned(),
    };
    let path = Path::new(&path);
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(bad()) }
}

/// Percent-decoding (RFC 3986 section 2.1) of a path.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    String::from_utf8(out).ok()
}

/// Decides a create that failed without telling whether it happened: reads the slot back. Own bytes there are success;
/// anything else leaves `failure` as it was. Absence proves nothing (a slow write may still land): create again.
///
/// # Errors
/// `failure`, unless the slot holds exactly `bytes`.
pub async fn settle(
    store: &dyn Store,
    path: &ObjectPath,
    bytes: &Bytes,
    failure: StoreError,
) -> Result<(), StoreError> {
    match store.get(path, bytes.len() as u64).await {
        Ok(there) if there == *bytes => Ok(()),
        Ok(_) | Err(_) => Err(failure),
    }
}

#[cfg(test)]
pub(crate) mod conformance;

#[cfg(test)]
mod tests {
    use super::{OpenStoreError, StoreError, create, folder, open};
    use std::path::Path;

    #[test]
    fn addresses_are_paths_or_file_urls() {
        for (url, path) in
            [("/srv/a b", "/srv/a b"), ("file:///srv/a%20b", "/srv/a b"), ("/a/../b", "/a/../b")]
        {
            assert_eq!(folder(url).expect("valid"), Path::new(path));
        }
        for url in ["", "srv", "./srv", "file://host/srv", "file:///a%2", "file:///a%zz"] {
            assert!(matches!(folder(url), Err(OpenStoreError::Address { .. })), "{url}");
        }
        assert!(
            matches!(folder("s3://bucket"), Err(OpenStoreError::NotSupported { scheme }) if scheme == "s3")
        );
    }

    #[tokio::test]
    async fn opening_never_makes_the_folder() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let url = dir.path().join("share").display().to_string();
        assert!(matches!(open(&url).await, Err(OpenStoreError::Store(StoreError::Unreachable { .. }))));
        create(&url).await.expect("made");
        create(&url).await.expect("made already");
        open(&url).await.expect("opens");
        std::fs::write(dir.path().join("file"), b"").expect("written");
        let url = dir.path().join("file").display().to_string();
        assert!(matches!(open(&url).await, Err(OpenStoreError::Store(StoreError::InvalidPath { .. }))));
        assert!(matches!(create(&url).await, Err(OpenStoreError::Store(StoreError::InvalidPath { .. }))));
    }
}
