//! Limits: no call to a share takes longer than its length explains.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use muster_protocol::config::Lock;

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};

/// How long a call may take: `base`, and what its bytes need at the slowest rate still called working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// For any call, and for each line of a listing.
    pub base: Duration,
    /// Slowest rate, in bytes a second.
    pub slowest_bytes_per_sec: u64,
}

impl Default for Limit {
    /// 30 s, and 256 KiB a second: a pack of 16 MiB may take a minute and a half.
    fn default() -> Self {
        Self { base: Duration::from_secs(30), slowest_bytes_per_sec: 256 * 1024 }
    }
}

/// Bytes beyond these do not lengthen a read whose length is not known beforehand.
const UNKNOWN_MOST: u64 = 64 * 1024 * 1024;

impl Limit {
    fn of(&self, bytes: u64) -> Duration {
        self.base.saturating_add(Duration::from_secs(bytes / self.slowest_bytes_per_sec.max(1)))
    }
}

/// A store whose calls all end. A write that was given up may still land: see [`super::settle`].
pub struct TimeLimited {
    inner: Arc<dyn Store>,
    limit: Limit,
}

impl TimeLimited {
    /// `inner` with this limit.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, limit: Limit) -> Self {
        Self { inner, limit }
    }

    async fn within<T>(
        &self,
        what: impl fmt::Display,
        bytes: u64,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let after = self.limit.of(bytes);
        match tokio::time::timeout(after, call).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::TimedOut { path: what.to_string(), after }),
        }
    }
}

impl fmt::Debug for TimeLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeLimited").field("inner", &self.inner).field("limit", &self.limit).finish()
    }
}

#[async_trait]
impl Store for TimeLimited {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        self.within(path, bytes.len() as u64, self.inner.put_new(path, bytes)).await
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        self.within(path, max_len.min(UNKNOWN_MOST), self.inner.get(path, max_len)).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = range.end.saturating_sub(range.start).min(UNKNOWN_MOST);
        self.within(path, bytes, self.inner.get_range(path, range)).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        self.within(path, 0, self.inner.head(path)).await
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        let name = match prefix.to_string() {
            // The whole share has no name of its own.
            name if name.is_empty() => self.describe(),
            name => name,
        };
        let lines = self.inner.list(prefix);
        stream::unfold(Some((lines, name)), move |state| async move {
            let (mut lines, name) = state?;
            let after = self.limit.base;
            match tokio::time::timeout(after, lines.next()).await {
                Ok(line) => Some((line?, Some((lines, name)))),
                Err(_) => Some((Err(StoreError::TimedOut { path: name, after }), None)),
            }
        })
        .boxed()
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.within(path, 0, self.inner.delete(path)).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.within(self.describe(), 0, self.inner.free_bytes()).await
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.inner.accept(credentials)
    }

    fn lock(&self) -> Option<Lock> {
        self.inner.lock()
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        self.within(path, 0, self.inner.locked_until(path)).await
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        self.within(path, 0, self.inner.lock_until(path, until)).await
    }

    async fn cool(&self, path: &ObjectPath) {
        // What takes too long is given up: nothing depends on it.
        let cooled = async {
            self.inner.cool(path).await;
            Ok(())
        };
        drop(self.within(path, 0, cooled).await);
    }

    async fn tidy(&self) {
        let tidied = async {
            self.inner.tidy().await;
            Ok(())
        };
        drop(self.within(&Prefix::Probes, 0, tidied).await);
    }

    fn exclusive(&self) -> Exclusive {
        self.inner.exclusive()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, TimeLimited};
    use crate::layout::{ObjectPath, Prefix};
    use crate::store::conformance;
    use crate::store::faults::{Fault, Faulty};
    use crate::store::{FileStore, Store, StoreError};
    use bytes::Bytes;
    use futures::StreamExt;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn a_limited_store_conforms() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = FileStore::open(dir.path().to_owned()).await.expect("opens");
        conformance::all(Arc::new(TimeLimited::new(Arc::new(file), Limit::default()))).await;
    }

    #[tokio::test]
    async fn a_share_that_hangs_ends_every_call() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = FileStore::open(dir.path().to_owned()).await.expect("opens");
        let hanging = Faulty::new(Arc::new(file), |_| Fault::Delay(Duration::from_secs(1_000_000)));
        let limit = Limit { base: Duration::from_millis(1), slowest_bytes_per_sec: 1 << 30 };
        let store = TimeLimited::new(Arc::new(hanging), limit);
        let path = ObjectPath::LogRecord(1);
        let timed_out =
            |error: StoreError| matches!(error, StoreError::TimedOut { .. }) && error.is_transient();
        assert!(timed_out(store.put_new(&path, Bytes::from_static(b"a")).await.expect_err("put")));
        assert!(timed_out(store.get(&path, u64::MAX).await.expect_err("get")));
        assert!(timed_out(store.get_range(&path, 0..1).await.expect_err("range")));
        assert!(timed_out(store.head(&path).await.expect_err("head")));
        assert!(timed_out(store.delete(&path).await.expect_err("delete")));
        assert!(timed_out(store.free_bytes().await.expect_err("room")));
        let lines: Vec<_> = store.list(&Prefix::Everything).collect().await;
        assert!(matches!(lines.as_slice(), [Err(StoreError::TimedOut { path, .. })] if !path.is_empty()));
    }

    #[test]
    fn more_bytes_have_more_time() {
        let limit = Limit { base: Duration::from_secs(1), slowest_bytes_per_sec: 10 };
        assert_eq!(limit.of(0), Duration::from_secs(1));
        assert_eq!(limit.of(100), Duration::from_secs(11));
        assert_eq!(Limit { slowest_bytes_per_sec: 0, ..limit }.of(5), Duration::from_secs(6));
    }
}
