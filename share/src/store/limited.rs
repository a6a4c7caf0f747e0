//! Limits: so many calls at once, and so many bytes a second to the share.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use muster_protocol::config::Lock;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};

/// A store that is not asked for more than this. Listings count as no call: their readers make calls between two lines, which
/// would wait for themselves.
pub struct Limited {
    inner: Arc<dyn Store>,
    calls: Option<Semaphore>,
    writes: Option<Bucket>,
}

impl Limited {
    /// At most `at_once` calls are under way, others wait in the order of their coming.
    ///
    /// # Panics
    /// When none may be.
    #[must_use]
    pub fn calls(inner: Arc<dyn Store>, at_once: usize) -> Self {
        assert!(at_once > 0, "a store without calls is none");
        let calls = Some(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        Self { inner, calls, writes: None }
    }

    /// At most so many bytes a second are written; 0: none are let through within any time that matters.
    #[must_use]
    pub fn writes(inner: Arc<dyn Store>, bytes_per_sec: u64) -> Self {
        Self { inner, calls: None, writes: Some(Bucket::new(bytes_per_sec.max(1))) }
    }

    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        match &self.calls {
            Some(calls) => Some(calls.acquire().await.expect("it is never closed")),
            None => None,
        }
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Limited {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        if let Some(writes) = &self.writes {
            writes.take(bytes.len() as u64).await;
        }
        let _turn = self.turn().await;
        self.inner.put_new(path, bytes).await
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        let _turn = self.turn().await;
        self.inner.get(path, max_len).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let _turn = self.turn().await;
        self.inner.get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        let _turn = self.turn().await;
        self.inner.head(path).await
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        self.inner.delete(path).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let _turn = self.turn().await;
        self.inner.free_bytes().await
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.inner.accept(credentials)
    }

    fn lock(&self) -> Option<Lock> {
        self.inner.lock()
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        let _turn = self.turn().await;
        self.inner.locked_until(path).await
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        self.inner.lock_until(path, until).await
    }

    async fn cool(&self, path: &ObjectPath) {
        self.inner.cool(path).await;
    }

    async fn tidy(&self) {
        self.inner.tidy().await;
    }

    fn exclusive(&self) -> Exclusive {
        self.inner.exclusive()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

/// Lets so many bytes a second through: an object waits until those before it would have passed at that rate.
#[derive(Debug)]
struct Bucket {
    bytes_per_sec: u64,
    free_from: Mutex<Option<Instant>>,
}

impl Bucket {
    fn new(bytes_per_sec: u64) -> Self {
        Self { bytes_per_sec, free_from: Mutex::default() }
    }

    async fn take(&self, bytes: u64) {
        let now = Instant::now();
        let start = {
            let mut free_from = self.free_from.lock().await;
            let start = free_from.map_or(now, |from| from.max(now));
            let millis = bytes.saturating_mul(1000) / self.bytes_per_sec;
            *free_from = Some(start + Duration::from_millis(millis));
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::join_all;
    use muster_protocol::ids::ObjectId;
    use tokio::time::Instant;

    use super::Limited;
    use crate::layout::ObjectPath;
    use crate::store::faults::{Fault, Faulty};
    use crate::store::{FileStore, Store, conformance};

    async fn folder() -> (tempfile::TempDir, Arc<dyn Store>) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = FileStore::open(dir.path().to_owned()).await.expect("a share");
        (dir, Arc::new(store))
    }

    #[tokio::test]
    async fn it_is_a_store() {
        let (_dir, store) = folder().await;
        conformance::all(Arc::new(Limited::writes(Arc::new(Limited::calls(store, 2)), 1 << 40))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn objects_pass_at_the_rate() {
        let (_dir, store) = folder().await;
        let store = Limited::writes(store, 1000);
        let start = Instant::now();
        for (number, (len, seconds_before)) in (0..).zip([(2000, 0), (500, 2), (500, 2), (1, 3)]) {
            let bytes = Bytes::from(vec![number; len]);
            store.put_new(&ObjectPath::List(ObjectId::of(&bytes)), bytes).await.expect("written");
            assert_eq!(start.elapsed().as_secs(), seconds_before);
        }
    }

    /// Twelve calls of a second each, three at once.
    #[tokio::test(start_paused = true)]
    async fn no_more_calls_than_that_are_under_way() {
        let (_dir, store) = folder().await;
        let slow = Faulty::new(store, |_| Fault::Delay(Duration::from_secs(1)));
        let store = Limited::calls(Arc::new(slow), 3);
        let start = Instant::now();
        let calls = (0..12).map(|_| store.head(&ObjectPath::Format));
        assert!(join_all(calls).await.into_iter().all(|done| done.is_err()));
        assert_eq!(start.elapsed().as_secs(), 4);
    }
}
