//! Absence that can be believed: the folder of a share that is away is there, and empty, and it may be back a moment later.
//!
//! Whoever concludes anything from what the share lacks (quarantine, a slice that is refused, a prune, a copy that deletes) reads
//! through [`Sure`]. Readers to whom a free name is nothing special, as the log's own, do not.

use std::future::ready;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use muster_protocol::config::Lock;
use muster_protocol::ids::FleetId;

use super::Format;
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};
use crate::store::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};

/// Whether what lies at the share's address is the share of this fleet now: it holds the fleet's `FORMAT`.
///
/// # Errors
/// [`StoreError::Strange`] when it does not, and those of the share.
pub async fn recognise(store: &dyn Store, fleet: &FleetId) -> Result<(), StoreError> {
    let strange = || StoreError::Strange { share: store.describe() };
    match store.get(&ObjectPath::Format, Format::MAX_LEN).await {
        Ok(bytes) => match Format::parse(&bytes) {
            Ok(format) if format.fleet == *fleet => Ok(()),
            Ok(_) | Err(_) => Err(strange()),
        },
        Err(StoreError::NotFound { .. } | StoreError::TooLong { .. }) => Err(strange()),
        Err(error) => Err(error),
    }
}

/// A fleet's share that says [`StoreError::NotFound`] only of what it lacks while it is there: what is missing is looked for once
/// more, between two looks at `FORMAT`. Otherwise it is [`StoreError::Strange`], or the object is there after all.
///
/// That takes nothing from a share on which everything is found. To be taken in by it, a share would have to go away and come back
/// twice, each time around a single call.
///
/// A listing ends with a look at `FORMAT`, and no more: it may lack what was there when the share was away for a part of it. Before
/// anything is concluded from that, the object is asked for by its name, or listed again.
#[derive(Debug, Clone)]
pub struct Sure {
    inner: Arc<dyn Store>,
    fleet: FleetId,
}

impl Sure {
    /// This share, which is the fleet's.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, fleet: FleetId) -> Self {
        Self { inner, fleet }
    }

    async fn here(&self) -> Result<(), StoreError> {
        match recognise(self.inner.as_ref(), &self.fleet).await {
            // Such an error is one of the object that was asked for: of FORMAT, it says as much of the whole share.
            Err(
                StoreError::Damaged { .. }
                | StoreError::Denied { .. }
                | StoreError::InvalidPath { .. }
                | StoreError::Io { .. },
            ) => Err(StoreError::Strange { share: self.inner.describe() }),
            seen => seen,
        }
    }

    async fn sure<'a, T>(
        &self,
        call: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Send + Sync,
    ) -> Result<T, StoreError> {
        match call().await {
            Err(StoreError::NotFound { .. }) => {}
            done => return done,
        }
        self.here().await?;
        let again = call().await;
        if let Err(StoreError::NotFound { .. }) = again {
            self.here().await?;
        }
        again
    }
}

#[async_trait]
impl Store for Sure {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put_new(path, bytes).await
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        self.sure(|| self.inner.get(path, max_len)).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.sure(|| self.inner.get_range(path, range.clone())).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        self.sure(|| self.inner.head(path)).await
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        let end = stream::once(self.here()).filter_map(|seen| ready(seen.err().map(Err)));
        self.inner.list(prefix).chain(end).boxed()
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.sure(|| self.inner.delete(path)).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes().await
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.inner.accept(credentials)
    }

    fn lock(&self) -> Option<Lock> {
        self.inner.lock()
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        self.sure(|| self.inner.locked_until(path)).await
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        self.sure(|| self.inner.lock_until(path, until)).await
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures::StreamExt;
    use muster_protocol::ids::FleetId;

    use super::Sure;
    use crate::layout::{ObjectPath, Prefix};
    use crate::log::{FORMAT_VERSION, Format};
    use crate::store::faults::{Call, Fault, Faulty, Op};
    use crate::store::{FileStore, Store, StoreError};

    const THERE: ObjectPath = ObjectPath::LogRecord(1);
    const LOST: ObjectPath = ObjectPath::LogRecord(2);

    /// A share that is away for the calls that are so.
    async fn share(is_away: fn(&Call<'_>) -> bool) -> (tempfile::TempDir, Sure) {
        let (folder, fleet) = (tempfile::tempdir().expect("a folder"), FleetId::from_bytes([1; 32]));
        let store: Arc<dyn Store> = Arc::new(FileStore::open(folder.path().into()).await.expect("a share"));
        let format = Format { version: FORMAT_VERSION, fleet }.print();
        store.put_new(&ObjectPath::Format, Bytes::from(format)).await.expect("stored");
        store.put_new(&THERE, Bytes::from_static(b"x")).await.expect("stored");
        let faulty = Faulty::new(store, move |call| if is_away(call) { Fault::Absent } else { Fault::None });
        (folder, Sure::new(Arc::new(faulty), fleet))
    }

    fn is_strange<T>(said: &Result<T, StoreError>) -> bool {
        matches!(said, Err(error @ StoreError::Strange { .. }) if error.is_transient())
    }

    #[tokio::test]
    async fn what_is_missing_is_missing_while_the_share_is_there_and_at_no_other_time() {
        let (_folder, store) = share(|_| false).await;
        assert!(matches!(store.head(&LOST).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.delete(&LOST).await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.list(&Prefix::Log).collect::<Vec<_>>().await.len(), 1);
        // Away for good.
        let (_folder, store) = share(|_| true).await;
        assert!(is_strange(&store.get(&THERE, 1).await));
        assert!(is_strange(&store.head(&ObjectPath::Format).await));
        assert!(is_strange(&store.delete(&LOST).await));
        let listed: Vec<_> = store.list(&Prefix::Log).collect().await;
        assert!(matches!(listed.as_slice(), [only] if is_strange(only)), "{listed:?}");
        // Back before the second look, or away again behind it.
        let (_folder, store) =
            share(|call| call.op == Op::Get && call.path != "FORMAT" && call.nth == 0).await;
        assert_eq!(store.get(&THERE, 1).await.expect("it is there after all"), &b"x"[..]);
        let (_folder, store) = share(|call| call.path != "FORMAT" || call.nth > 0).await;
        assert!(is_strange(&store.get(&THERE, 1).await));
        // What is wrong with FORMAT is nothing that is wrong with the object.
        let (folder, store) = share(|_| false).await;
        std::fs::write(folder.path().join("FORMAT"), "muster 0 another fleet's\n").expect("written");
        assert!(is_strange(&store.head(&LOST).await));
    }

    #[tokio::test]
    async fn folders_that_were_made_are_taken_away_through_it() {
        let (folder, store) = share(|_| false).await;
        let probe = ObjectPath::Probe([3; 16]);
        store.put_new(&probe, Bytes::from_static(b"x")).await.expect("stored");
        store.delete(&probe).await.expect("deleted");
        assert!(folder.path().join("probe").is_dir());
        store.tidy().await;
        assert!(!folder.path().join("probe").exists());
    }
}
