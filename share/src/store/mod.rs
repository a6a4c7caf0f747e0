//! Stores: how bytes get to a share and back. A small trait, one backend per kind of share, and decorators over it
//! ([`retry`], [`timeout`], [`limited`], [`metered`], [`faults`]).
//!
//! A store knows paths and bytes, never what they mean. It never overwrites: there is no call that could.

pub mod address;
mod error;
pub mod faults;
mod file;
mod kept;
pub mod limited;
pub mod metered;
mod object;
pub mod retry;
pub mod secret;
mod smb;
pub mod timeout;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use muster_protocol::config::{Lock, ShareConfig};
use muster_protocol::retry::Retry;
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::entropy::OsEntropy;
use crate::layout::{ObjectPath, Prefix};
use crate::secret_file::{self, SecretFileError};
use address::{Address, AddressError};
use limited::Limited;
use metered::{Meter, Metered};
use object::{BucketStore, Service};
use retry::Retrying;
use secret::SecretError;
use smb::SmbStore;
use timeout::{Limit, TimeLimited};

pub use error::StoreError;
pub use file::FileStore;
pub use kept::put_and_read_back;

/// What the share says of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Length in bytes.
    pub size: u64,
    /// When it was last written, by the share's clock, where it tells.
    pub modified: Option<SystemTime>,
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
    /// [`StoreError::NotFound`] when it is gone already, [`StoreError::Locked`] while its lock keeps it.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError>;

    /// Bytes that may still be written, where the share tells.
    ///
    /// # Errors
    /// Those of the transport.
    async fn free_bytes(&self) -> Result<Option<u64>, StoreError>;

    /// Takes these credentials for the calls that follow. False: this kind of share needs none, and they are forgotten.
    ///
    /// # Errors
    /// When they are none of this kind of share; those of before stay.
    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError>;

    /// The lock of new objects, where the configuration asks for one.
    fn lock(&self) -> Option<Lock> {
        None
    }

    /// When the object's lock ends; `None`: it has none. The end may lie in the past.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and those of the transport.
    async fn locked_until(&self, _path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        Ok(None)
    }

    /// Lets the object's lock end at `until`, later than now. Does nothing on a share without locks.
    ///
    /// # Errors
    /// Those of a write.
    async fn lock_until(&self, _path: &ObjectPath, _until: SystemTime) -> Result<(), StoreError> {
        Ok(())
    }

    /// Lets the next read of the object come from where it lies, not from what this machine remembers of it. Only a wish: where
    /// nothing is remembered, or nothing can be forgotten, there is nothing to do.
    async fn cool(&self, _path: &ObjectPath) {}

    /// Takes away the folders that this store has made itself and that hold nothing. Only a wish: on a share without folders there
    /// are none.
    async fn tidy(&self) {}

    /// What is known of how log slots are created.
    fn exclusive(&self) -> Exclusive;

    /// The share's address, without secrets, for screens.
    fn describe(&self) -> String;
}

/// Why an address opens no share.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The file with the credentials cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The credentials are none of this kind of share.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// `[share] lock` for a share that has no locks.
    #[error(
        "[share] lock is set, and {url} cannot lock what is written: only S3 buckets with Object Lock can; set it to \"\""
    )]
    NoLocks {
        /// The share.
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
            Self::Address(_) | Self::File(_) | Self::Secret(_) | Self::NoLocks { .. } => false,
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// The share of this configuration, each call with its limit. A folder, of this machine or of an SMB share, must exist.
///
/// # Errors
/// When address or credentials cannot be used, or the share is not there.
pub async fn open(share: &ShareConfig) -> Result<Arc<dyn Store>, OpenStoreError> {
    open_with(share, credentials(share)?.as_ref()).await
}

/// Like [`open`], with these credentials in place of those of the file that the configuration names.
///
/// # Errors
/// Those of [`open`].
pub async fn open_with(
    share: &ShareConfig,
    credentials: Option<&Credentials>,
) -> Result<Arc<dyn Store>, OpenStoreError> {
    let store: Arc<dyn Store> = match lockable(share)? {
        Address::Folder(folder) => Arc::new(FileStore::open(folder).await?),
        Address::Smb(address) => Arc::new(SmbStore::open(address, credentials).await?),
        Address::S3(address) => {
            let service = Service::s3(address, share.ca.clone(), share.locked());
            Arc::new(BucketStore::open(service, credentials)?)
        }
        Address::Azure(address) => {
            let service = Service::azure(address, share.ca.clone());
            Arc::new(BucketStore::open(service, credentials)?)
        }
    };
    Ok(in_time(store))
}

/// Like [`open`], and makes a folder (not its parents) that is not there.
///
/// # Errors
/// Those of [`open`], and when the folder cannot be made.
pub async fn create(share: &ShareConfig) -> Result<Arc<dyn Store>, OpenStoreError> {
    match lockable(share)? {
        Address::Folder(folder) => Ok(in_time(Arc::new(FileStore::create(folder).await?))),
        Address::Smb(address) => {
            Ok(in_time(Arc::new(SmbStore::create(address, credentials(share)?.as_ref()).await?)))
        }
        Address::S3(_) | Address::Azure(_) => open(share).await,
    }
}

/// Whoever opens a share may ask it at once: there is no way to one whose calls do not end.
fn in_time(store: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(TimeLimited::new(store, Limit::default()))
}

/// The share that was opened, as everyone uses it: every call is told to the meter, what passes is tried again, and no more calls are
/// under way than the configuration allows.
#[must_use]
pub fn guarded(store: Arc<dyn Store>, share: &ShareConfig, retry: Retry, meter: Meter) -> Arc<dyn Store> {
    let store = Metered::new(store, meter);
    let store = Limited::calls(Arc::new(store), share.at_once.get());
    Arc::new(Retrying::new(Arc::new(store), retry))
}

/// The address, if what is asked for can be had there.
fn lockable(share: &ShareConfig) -> Result<Address, OpenStoreError> {
    let address = Address::parse(&share.url)?;
    match address {
        Address::Folder(_) | Address::Smb(_) | Address::Azure(_) if share.locked().is_some() => {
            Err(OpenStoreError::NoLocks { url: address.to_string() })
        }
        Address::Folder(_) | Address::Smb(_) | Address::Azure(_) | Address::S3(_) => Ok(address),
    }
}

/// Those of the file that the configuration names.
fn credentials(share: &ShareConfig) -> Result<Option<Credentials>, SecretFileError> {
    if share.credentials.as_os_str().is_empty() {
        return Ok(None);
    }
    let secret = secret_file::read(&share.credentials)?;
    Ok(Some(Credentials::new(Zeroizing::new(secret.as_bytes().to_vec()), &mut OsEntropy)))
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
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::{OpenStoreError, StoreError, create, open, open_with};
    use crate::credentials::Credentials;
    use crate::entropy::OsEntropy;
    use muster_protocol::config::ShareConfig;
    use zeroize::Zeroizing;

    #[tokio::test]
    async fn credentials_of_another_kind_of_share_are_refused_before_anybody_is_asked() {
        let s3 = "access_key_id=AK\nsecret_access_key=SK";
        for (url, text) in [
            ("s3://b", "access_key_id=AK\nsecret_access_key=SK\nsession_token=hunter\u{1}b"),
            ("smb://h/s", s3),
            ("azblob://a/c", "account_key=hunter2"),
        ] {
            let credentials = Credentials::new(Zeroizing::new(text.as_bytes().to_vec()), &mut OsEntropy);
            let error = open_with(&ShareConfig::at(url), Some(&credentials)).await.expect_err(url);
            assert!(matches!(error, OpenStoreError::Secret(_)), "{error:?}");
            assert!(!format!("{error:?} {error}").contains("hunter"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn opening_never_makes_the_folder() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let share = ShareConfig::at(dir.path().join("share").display().to_string());
        assert!(matches!(open(&share).await, Err(OpenStoreError::Store(StoreError::Unreachable { .. }))));
        create(&share).await.expect("made");
        create(&share).await.expect("made already");
        open(&share).await.expect("opens");
        std::fs::write(dir.path().join("file"), b"").expect("written");
        let share = ShareConfig::at(dir.path().join("file").display().to_string());
        assert!(matches!(open(&share).await, Err(OpenStoreError::Store(StoreError::InvalidPath { .. }))));
        assert!(matches!(create(&share).await, Err(OpenStoreError::Store(StoreError::InvalidPath { .. }))));
    }
}
