//! The backend for object storage, over the `object_store` crate: S3 and what speaks its protocol, and Azure Blob Storage.
//!
//! ```text
//! every object   one PUT with If-None-Match: *      it appears whole or not at all; one of several racers wins
//! reads          GET, with Range where a part is wanted
//! listings       pages of 1,000 names (Azure: 5,000), one page in memory
//! deletes        DELETE; of every version where versions are locked
//! ```
//!
//! A pack is one request: at 12 MiB it is the unit of resuming, as on every other kind of share (decision 0025). The
//! crate's own retries are off; [`super::retry`] and [`super::timeout`] do for all backends alike.

mod error;
mod http;
mod listing;
mod lock;
mod request;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use muster_protocol::config::Lock;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use self::http::Redirect;
use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};
use error::{Access, cause, classify};
use service::Client;

pub(super) use service::Service;

/// Most bytes that are reserved because an answer announces them: those of a pack.
const RESERVED: u64 = 16 << 20;

/// A share in a bucket or container.
pub(super) struct BucketStore {
    service: Service,
    /// Replaced as a whole when other credentials come.
    client: RwLock<Client>,
}

impl BucketStore {
    /// The share at this service, with the credentials of the environment until others are accepted. Asks nothing yet.
    ///
    /// # Errors
    /// When the address or the credentials are malformed.
    pub(super) fn open(service: Service, credentials: Option<&Credentials>) -> Result<Self, OpenStoreError> {
        let client = RwLock::new(service.client(credentials)?);
        Ok(Self { service, client })
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The error of a call on `path`. A redirect is of the address.
    fn failed(&self, path: String, access: Access, error: object_store::Error) -> StoreError {
        match cause::<Redirect>(&error) {
            Some(redirect) => {
                StoreError::InvalidPath { path: self.service.to_string(), reason: redirect.to_string() }
            }
            None => classify(path, access, error),
        }
    }

    fn key(&self, path: &ObjectPath) -> Path {
        self.service.key(&path.to_string())
    }

    /// One GET of what `range` says, of at most `most` bytes.
    async fn fetch(
        &self,
        path: &ObjectPath,
        range: Option<GetRange>,
        most: u64,
    ) -> Result<Bytes, StoreError> {
        let name = path.to_string();
        let failed = |error| self.failed(name.clone(), Access::Read, error);
        let options = GetOptions { range, ..GetOptions::default() };
        let answer = self.client().store.get_opts(&self.key(path), options).await.map_err(failed)?;
        let have = answer.range.end.saturating_sub(answer.range.start);
        if have > most {
            return Err(StoreError::TooLong { path: name, have, most });
        }
        let mut body = answer.into_stream();
        let mut bytes = BytesMut::with_capacity(usize::try_from(have.min(RESERVED)).unwrap_or(0));
        while let Some(part) = body.next().await {
            let part = part.map_err(failed)?;
            if (bytes.len() + part.len()) as u64 > most {
                return Err(StoreError::TooLong {
                    path: name,
                    have: (bytes.len() + part.len()) as u64,
                    most,
                });
            }
            bytes.extend_from_slice(&part);
        }
        if (bytes.len() as u64) < have {
            return Err(StoreError::Io { path: name, source: io::ErrorKind::UnexpectedEof.into() });
        }
        Ok(bytes.freeze())
    }

    /// One conditional PUT, with a lock where there is one.
    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), object_store::Error> {
        let (client, key) = (self.client(), self.key(path));
        if let Some(lock) = self.service.lock()
            && let Some(term) = lock::term(&lock, path)
        {
            let until = SystemTime::now() + term;
            return lock::put(&client.requests, key.as_ref(), bytes, lock.mode, until).await;
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        client.store.put_opts(&key, PutPayload::from_bytes(bytes), options).await.map(drop)
    }

    async fn version(&self, path: &ObjectPath) -> Result<lock::Version, StoreError> {
        let looked = lock::look(&self.client().requests, self.key(path).as_ref()).await;
        looked.map_err(|error| self.failed(path.to_string(), Access::Read, error))
    }

    /// Deletes the object, version by version: where they are kept, what is not named by its version is only hidden.
    async fn delete_versions(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let (client, key) = (self.client(), self.key(path));
        let mut version = self.version(path).await?;
        for _ in 0..lock::VERSIONS {
            if let Err(error) = client.requests.delete(key.as_ref(), version.id.as_deref()).await {
                let error = self.failed(path.to_string(), Access::Write, error);
                let refused = matches!(error, StoreError::WriteRefused { .. } | StoreError::Denied { .. });
                return Err(match version.until {
                    // The service says the same of a lock and of a right that is missing.
                    Some(until) if refused && until > SystemTime::now() => {
                        StoreError::Locked { path: path.to_string(), until }
                    }
                    Some(_) | None => error,
                });
            }
            version = match self.version(path).await {
                Ok(version) => version,
                Err(StoreError::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
        }
        let source = io::Error::other(format!("it has more than {} versions", lock::VERSIONS));
        Err(StoreError::Io { path: path.to_string(), source })
    }

    async fn meta(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        let failed = |error| self.failed(path.to_string(), Access::Read, error);
        self.client().store.head(&self.key(path)).await.map_err(failed)
    }

    /// What the refusal of a create means: the service says the same of a name that is taken and of two creates at once
    /// (S3: 409 `ConditionalRequestConflict`), of which the other may fail yet.
    async fn taken(&self, path: &ObjectPath, bytes: &Bytes) -> Result<(), StoreError> {
        let name = path.to_string();
        if path.is_contended() {
            return match self.fetch(path, None, bytes.len() as u64).await {
                Ok(there) if there == *bytes => Ok(()),
                Ok(_) | Err(StoreError::TooLong { .. }) => Err(StoreError::AlreadyExists { path: name }),
                Err(StoreError::NotFound { .. }) => Err(conflict(name)),
                Err(error) => Err(error),
            };
        }
        match self.meta(path).await {
            Ok(_) => Err(StoreError::AlreadyExists { path: name }),
            Err(StoreError::NotFound { .. }) => Err(conflict(name)),
            Err(error) => Err(error),
        }
    }
}

fn conflict(path: String) -> StoreError {
    StoreError::Io { path, source: io::Error::other("another create of it was under way and did not end") }
}

impl fmt::Debug for BucketStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own form may hold credentials.
        f.debug_struct("BucketStore").field("service", &self.service).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for BucketStore {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        let Err(error) = self.create(path, bytes.clone()).await else { return Ok(()) };
        let is_locked = self.service.lock().and_then(|lock| lock::term(&lock, path)).is_some();
        let access = if is_locked { Access::Locked } else { Access::Write };
        let error = self.failed(path.to_string(), access, error);
        // Azure says to whoever may create and not overwrite that a taken name is forbidden.
        let is_taken = matches!(error, StoreError::AlreadyExists { .. })
            || matches!(error, StoreError::WriteRefused { .. })
                && !self.client().requests.is_s3()
                && self.meta(path).await.is_ok();
        if is_taken { self.taken(path, &bytes).await } else { Err(error) }
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        self.fetch(path, None, max_len).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let short = |have: u64| StoreError::Damaged {
            path: path.to_string(),
            what: format!("it has {have} bytes, {} are wanted", range.end),
        };
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            // The service has no empty ranges.
            let have = self.meta(path).await?.size;
            return if range.end <= have { Ok(Bytes::new()) } else { Err(short(have)) };
        }
        match self.fetch(path, Some(GetRange::Bounded(range.clone())), wanted).await {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            // Cut off at the object's end, or refused for beginning behind it.
            Ok(_) => Err(short(self.meta(path).await?.size)),
            Err(error @ StoreError::Io { .. }) => {
                let have = self.meta(path).await?.size;
                Err(if range.end > have { short(have) } else { error })
            }
            Err(error) => Err(error),
        }
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        let meta = self.meta(path).await?;
        Ok(Meta { size: meta.size, modified: Some(SystemTime::from(meta.last_modified)) })
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        let folder = prefix.to_string();
        let key = self.service.key(&folder);
        let below = if key.as_ref().is_empty() { String::new() } else { format!("{key}/") };
        let requests = self.client().requests;
        // The client may be replaced while this listing goes on: it keeps its own.
        let lines = listing::list(requests, below);
        lines
            .map(move |line| match line {
                Ok(line) => Ok(self.service.listed(&line)),
                Err(error) => Err(self.failed(folder.clone(), Access::Read, error)),
            })
            .boxed()
    }

    /// Asks first whether it is there: the service answers the same either way.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        if self.service.lock().is_some() {
            return self.delete_versions(path).await;
        }
        if self.client().requests.is_s3() {
            // Others may have locked it; then the service would hide it and free nothing.
            let until = self.version(path).await?.until.filter(|until| *until > SystemTime::now());
            if let Some(until) = until {
                return Err(StoreError::Locked { path: path.to_string(), until });
            }
        } else {
            self.meta(path).await?;
        }
        let failed = |error| self.failed(path.to_string(), Access::Write, error);
        self.client().requests.delete(self.key(path).as_ref(), None).await.map_err(failed)
    }

    /// Object storage does not tell.
    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        let client = self.service.client(Some(credentials))?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(true)
    }

    fn exclusive(&self) -> Exclusive {
        Exclusive::Untested
    }

    fn lock(&self) -> Option<Lock> {
        self.service.lock()
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        Ok(self.version(path).await?.until)
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        let Some(lock) = self.service.lock() else { return Ok(()) };
        let done = lock::renew(&self.client().requests, self.key(path).as_ref(), lock.mode, until).await;
        done.map_err(|error| self.failed(path.to_string(), Access::Write, error))
    }

    fn describe(&self) -> String {
        self.service.to_string()
    }
}
