//! Figures: every call is told to a meter, with what came of it and how long it took. What the meter does with it is its own affair.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, Stream};
use muster_protocol::config::Lock;

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};

/// What a share was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Put,
    /// An object, or a range of one.
    Get,
    /// What it says of an object, of a lock, or of its room.
    Head,
    /// A listing, to its end.
    List,
    /// To remove an object, or to move its lock's end.
    Delete,
}

impl Operation {
    /// The word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// What was asked for.
    Ok,
    /// There is no such object: an answer, not a failure.
    Absent,
    /// The name is taken: likewise.
    Taken,
    /// A failure that waiting may mend.
    Transient,
    /// One that it does not.
    Permanent,
}

impl Came {
    /// The word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Taken => "taken",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
        }
    }

    fn of(error: Option<&StoreError>) -> Self {
        match error {
            None => Self::Ok,
            Some(StoreError::NotFound { .. }) => Self::Absent,
            Some(StoreError::AlreadyExists { .. }) => Self::Taken,
            Some(error) if error.is_transient() => Self::Transient,
            Some(_) => Self::Permanent,
        }
    }
}

/// A call that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// What for.
    pub operation: Operation,
    /// What came of it.
    pub came: Came,
    /// How long it took; a listing as long as its reader took, too.
    pub took: Duration,
    /// Bytes that came from the share.
    pub read: u64,
    /// Bytes that went there.
    pub written: u64,
}

impl Call {
    /// Tells it in the words of metrics: operation, what came of it, how long it took, bytes read and written.
    pub fn tell(self, to: impl FnOnce(&str, &str, Duration, u64, u64)) {
        to(self.operation.as_str(), self.came.as_str(), self.took, self.read, self.written);
    }
}

/// Whoever wants to know of calls. It is called by whoever made the call: it must not wait.
pub type Meter = Arc<dyn Fn(Call) + Send + Sync>;

/// A store whose calls are told.
pub struct Metered {
    inner: Arc<dyn Store>,
    meter: Meter,
}

impl Metered {
    /// `inner`, its calls told to `meter`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, meter: Meter) -> Self {
        Self { inner, meter }
    }

    async fn tell<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>>,
        bytes: impl FnOnce(&T) -> (u64, u64),
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let done = call.await;
        let (read, written) = done.as_ref().map(bytes).unwrap_or_default();
        let came = Came::of(done.as_ref().err());
        (self.meter)(Call { operation, came, took: began.elapsed(), read, written });
        done
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Metered {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        self.tell(Operation::Put, self.inner.put_new(path, bytes), |()| (0, length)).await
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        self.tell(Operation::Get, self.inner.get(path, max_len), |bytes| (bytes.len() as u64, 0)).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.tell(Operation::Get, self.inner.get_range(path, range), |bytes| (bytes.len() as u64, 0)).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        self.tell(Operation::Head, self.inner.head(path), |_| (0, 0)).await
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        let meter = Arc::clone(&self.meter);
        Box::pin(Listing { lines: self.inner.list(prefix), began: Instant::now(), meter: Some(meter) })
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.tell(Operation::Delete, self.inner.delete(path), |()| (0, 0)).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.tell(Operation::Head, self.inner.free_bytes(), |_| (0, 0)).await
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.inner.accept(credentials)
    }

    fn lock(&self) -> Option<Lock> {
        self.inner.lock()
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        self.tell(Operation::Head, self.inner.locked_until(path), |_| (0, 0)).await
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        self.tell(Operation::Delete, self.inner.lock_until(path, until), |()| (0, 0)).await
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

/// A listing that is told when it ends. One that its reader leaves is told by nobody: nothing came of it.
struct Listing<'a> {
    lines: BoxStream<'a, Result<Listed, StoreError>>,
    began: Instant,
    meter: Option<Meter>,
}

impl Stream for Listing<'_> {
    type Item = Result<Listed, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = std::task::ready!(self.lines.as_mut().poll_next(context));
        let came = match &line {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(Came::of(Some(error))),
            None => Some(Came::Ok),
        };
        if let Some(came) = came
            && let Some(meter) = self.meter.take()
        {
            meter(Call { operation: Operation::List, came, took: self.began.elapsed(), read: 0, written: 0 });
        }
        Poll::Ready(line)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::StreamExt;
    use muster_protocol::config::ShareConfig;
    use tempfile::TempDir;

    use super::*;
    use crate::store;

    #[tokio::test]
    async fn every_call_is_told_with_what_came_of_it() {
        let folder = TempDir::new().expect("a folder");
        let share = ShareConfig::at(folder.path().to_string_lossy());
        let inner = store::create(&share).await.expect("a share");
        let told = Arc::new(Mutex::new(Vec::new()));
        let meter: Meter = Arc::new({
            let told = Arc::clone(&told);
            move |call: Call| {
                told.lock().expect("told").push((call.operation, call.came, call.read, call.written))
            }
        });
        let store = Metered::new(inner, meter);
        let path = ObjectPath::Format;
        store.head(&path).await.expect_err("nothing there");
        store.put_new(&path, Bytes::from_static(b"four")).await.expect("written");
        store.put_new(&path, Bytes::from_static(b"other")).await.expect_err("taken");
        store.get(&path, 9).await.expect("read");
        store.get_range(&path, 1..3).await.expect("read");
        store.get(&path, 1).await.expect_err("too long");
        assert_eq!(store.list(&Prefix::Log).collect::<Vec<_>>().await.len(), 0);
        drop(store.list(&Prefix::Log));
        store.delete(&path).await.expect("gone");
        let told = told.lock().expect("told").clone();
        assert_eq!(
            told,
            [
                (Operation::Head, Came::Absent, 0, 0),
                (Operation::Put, Came::Ok, 0, 4),
                (Operation::Put, Came::Taken, 0, 0),
                (Operation::Get, Came::Ok, 4, 0),
                (Operation::Get, Came::Ok, 2, 0),
                (Operation::Get, Came::Permanent, 0, 0),
                (Operation::List, Came::Ok, 0, 0),
                (Operation::Delete, Came::Ok, 0, 0),
            ]
        );
    }
}
