//! The backend for object storage, over the `object_store` crate: S3 and what speaks its protocol, and Azure Blob Storage.
//!
//! ```text
//! every object   one PUT with If-None-Match: *      it appears whole or not at all; one of several racers wins
//! reads          GET, with Range where a part is wanted
//! listings       pages of 1,000 names, one page in memory
//! ```
//!
//! A pack is one request: at 12 MiB it is the unit of resuming, as on every other kind of share (decision 0025). The
//! crate's own retries are off; [`super::retry`] and [`super::timeout`] do for all backends alike.

mod error;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};
use error::{Access, classify};

pub(super) use service::Service;

/// A share in a bucket or container.
pub(super) struct BucketStore {
    service: Service,
    /// Replaced as a whole when other credentials come.
    client: RwLock<Arc<dyn ObjectStore>>,
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

    fn client(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
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
        let failed = |error| classify(name.clone(), Access::Read, error);
        let options = GetOptions { range, ..GetOptions::default() };
        let answer = self.client().get_opts(&self.key(path), options).await.map_err(failed)?;
        let have = answer.range.end.saturating_sub(answer.range.start);
        if have > most {
            return Err(StoreError::TooLong { path: name, have, most });
        }
        let mut body = answer.into_stream();
        let mut bytes = BytesMut::with_capacity(usize::try_from(have).unwrap_or(0));
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
            return Err(StoreError::Io { path: name, source: std::io::ErrorKind::UnexpectedEof.into() });
        }
        Ok(bytes.freeze())
    }

    async fn meta(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        let failed = |error| classify(path.to_string(), Access::Read, error);
        self.client().head(&self.key(path)).await.map_err(failed)
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
    StoreError::Io {
        path,
        source: std::io::Error::other("another create of it was under way and did not end"),
    }
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
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(bytes.clone());
        let Err(error) = self.client().put_opts(&self.key(path), payload, options).await else {
            return Ok(());
        };
        let error = classify(path.to_string(), Access::Write, error);
        if matches!(error, StoreError::AlreadyExists { .. }) {
            self.taken(path, &bytes).await
        } else {
            Err(error)
        }
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
        let below = self.service.key(&folder);
        let lines = self.client().list(Some(&below));
        lines
            .map(move |line| match line {
                Ok(meta) => Ok(self.service.listed(&meta)),
                Err(error) => Err(classify(folder.clone(), Access::Read, error)),
            })
            .boxed()
    }

    /// Asks first whether it is there: the service answers the same either way.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.meta(path).await?;
        let failed = |error| classify(path.to_string(), Access::Write, error);
        self.client().delete(&self.key(path)).await.map_err(failed)
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

    fn describe(&self) -> String {
        self.service.to_string()
    }
}
