//! Trying again: waits in real time over the pure policy of `muster_protocol::retry`, and the decorator that gives a
//! store patience.
//!
//! The only module of the project that names the `backoff` crate. That crate has no maintainer (RUSTSEC-2025-0012): to
//! replace it, replace [`delays`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use muster_protocol::config::Lock;
use muster_protocol::retry::{Attempts, Retry};

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};

/// The waits between the attempts of `policy`: one fewer than attempts, doubling, each drawn between half and all of
/// its step.
pub fn delays(policy: &Retry) -> impl Iterator<Item = Duration> + Send + use<> {
    // An interval of three quarters, give or take a third of it, spans the policy's half to all.
    let mut waits = ExponentialBackoffBuilder::new()
        .with_initial_interval(policy.first().mul_f64(0.75))
        .with_max_interval(policy.longest().mul_f64(0.75))
        .with_multiplier(2.0)
        .with_randomization_factor(1.0 / 3.0)
        .with_max_elapsed_time(None)
        .build();
    let count = match policy.attempts() {
        Attempts::AtMost(most) => usize::try_from(most.saturating_sub(1)).unwrap_or(usize::MAX),
        Attempts::Unlimited => usize::MAX,
    };
    std::iter::from_fn(move || waits.next_backoff()).take(count)
}

/// Errors that know whether the same call may succeed in a moment.
pub trait Transient {
    /// Whether it may.
    fn is_transient(&self) -> bool;
}

impl Transient for StoreError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }
}

/// Runs `op` until it succeeds, fails for good, or the policy's attempts are used up; waits in between.
///
/// # Errors
/// The last attempt's.
pub async fn retry<T, E, F>(policy: &Retry, mut op: impl FnMut() -> F) -> Result<T, E>
where
    E: Transient,
    F: Future<Output = Result<T, E>>,
{
    let mut waits = delays(policy);
    loop {
        match op().await {
            Err(error) if error.is_transient() => match waits.next() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            },
            done => return done,
        }
    }
}

/// A store that repeats what failed for a transient reason.
pub struct Retrying {
    inner: Arc<dyn Store>,
    policy: Retry,
}

impl Retrying {
    /// `inner` with this patience.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, policy: Retry) -> Self {
        Self { inner, policy }
    }

    /// Whether an object that was not there before our own failed attempt is that attempt's.
    async fn found(&self, path: &ObjectPath, bytes: &Bytes) -> Result<Found, StoreError> {
        match self.inner.get(path, bytes.len() as u64).await {
            Ok(there) if there == *bytes => Ok(Found::Own),
            Ok(there) if bytes.starts_with(&there) => Ok(Found::Part),
            Ok(_) | Err(StoreError::TooLong { .. } | StoreError::Damaged { .. }) => Ok(Found::Other),
            Err(error) => Err(error),
        }
    }
}

enum Found {
    Own,
    /// The beginning of our bytes: torn, or still being written by an attempt that was given up.
    Part,
    Other,
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Retrying {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        let mut waits = delays(&self.policy);
        let mut ambiguous = false;
        loop {
            let mut error = match self.inner.put_new(path, bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let mut again = error.is_transient();
            if ambiguous && matches!(error, StoreError::AlreadyExists { .. }) {
                match self.found(path, &bytes).await {
                    Ok(Found::Own) => return Ok(()),
                    Ok(Found::Part) => again = true,
                    Ok(Found::Other) => {}
                    Err(reading) => {
                        again = reading.is_transient();
                        error = reading;
                    }
                }
            }
            match waits.next() {
                Some(wait) if again => tokio::time::sleep(wait).await,
                Some(_) | None => return Err(error),
            }
            ambiguous = true;
        }
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        retry(&self.policy, || self.inner.get(path, max_len)).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        retry(&self.policy, || self.inner.get_range(path, range.clone())).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        retry(&self.policy, || self.inner.head(path)).await
    }

    /// Retries only until the first line: what was given out cannot be taken back.
    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        let prefix = prefix.clone();
        let begin = async move {
            let begun = retry(&self.policy, || async {
                let mut lines = self.inner.list(&prefix);
                match lines.next().await {
                    Some(Err(error)) => Err(error),
                    // A stream must not be asked again after its end.
                    Some(Ok(line)) => Ok(Some((line, lines))),
                    None => Ok(None),
                }
            });
            match begun.await {
                Ok(Some((first, rest))) => stream::iter([Ok(first)]).chain(rest).boxed(),
                Ok(None) => stream::empty().boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(begin).flatten().boxed()
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let mut waits = delays(&self.policy);
        let mut ambiguous = false;
        loop {
            match self.inner.delete(path).await {
                Err(StoreError::NotFound { .. }) if ambiguous => return Ok(()),
                Err(error) if error.is_transient() => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
                done => return done,
            }
            ambiguous = true;
        }
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        retry(&self.policy, || self.inner.free_bytes()).await
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.inner.accept(credentials)
    }

    fn lock(&self) -> Option<Lock> {
        self.inner.lock()
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        retry(&self.policy, || self.inner.locked_until(path)).await
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        retry(&self.policy, || self.inner.lock_until(path, until)).await
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
    use super::{Retrying, delays};
    use crate::layout::{ObjectPath, Prefix};
    use crate::store::conformance;
    use crate::store::faults::{Call, Fault, Faulty, Op};
    use crate::store::timeout::{Limit, TimeLimited};
    use crate::store::{FileStore, Store, StoreError};
    use bytes::Bytes;
    use futures::StreamExt;
    use muster_protocol::ids::ObjectId;
    use muster_protocol::retry::{Attempts, Retry};
    use std::sync::Arc;
    use std::time::Duration;

    fn policy(attempts: u32) -> Retry {
        Retry::new(Duration::from_millis(1), Duration::from_millis(4), Attempts::AtMost(attempts))
            .expect("valid")
    }

    async fn faulty(
        dir: &tempfile::TempDir,
        attempts: u32,
        rule: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static,
    ) -> (Retrying, Arc<dyn Store>) {
        let file: Arc<dyn Store> = Arc::new(FileStore::open(dir.path().to_owned()).await.expect("opens"));
        (Retrying::new(Arc::new(Faulty::new(Arc::clone(&file), rule)), policy(attempts)), file)
    }

    fn object() -> ObjectPath {
        ObjectPath::List(ObjectId::of(b"abc"))
    }

    #[test]
    fn waits_stay_within_the_policy() {
        let policy =
            Retry::new(Duration::from_secs(1), Duration::from_secs(8), Attempts::AtMost(7)).expect("valid");
        let waits: Vec<_> = delays(&policy).collect();
        assert_eq!(waits.len(), 6);
        for (wait, full) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            let secs = wait.as_secs_f64();
            assert!((full * 0.499..=full * 1.001).contains(&secs), "{secs} of {full}");
        }
        let endless =
            Retry::new(Duration::from_secs(1), Duration::from_secs(8), Attempts::Unlimited).expect("valid");
        assert_eq!(delays(&endless).take(1000).count(), 1000);
        let once =
            Retry::new(Duration::from_secs(1), Duration::from_secs(8), Attempts::AtMost(1)).expect("valid");
        assert_eq!(delays(&once).count(), 0);
    }

    #[tokio::test]
    async fn a_retrying_store_conforms() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (store, _) = faulty(&dir, 2, |_| Fault::None).await;
        conformance::all(Arc::new(store)).await;
    }

    #[tokio::test]
    async fn transient_failures_are_outlived_and_lasting_ones_reported() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (store, file) =
            faulty(&dir, 3, |call| if call.nth < 2 { Fault::Unreachable } else { Fault::None }).await;
        store.put_new(&object(), Bytes::from_static(b"abc")).await.expect("third attempt");
        assert_eq!(file.get(&object(), 3).await.expect("there"), &b"abc"[..]);
        let dir = tempfile::tempdir().expect("temporary folder");
        let (store, _) = faulty(&dir, 3, |_| Fault::Unreachable).await;
        let error = store.put_new(&object(), Bytes::from_static(b"abc")).await.expect_err("never");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(matches!(store.list(&Prefix::Lists).next().await, Some(Err(StoreError::Unreachable { .. }))));
        let dir = tempfile::tempdir().expect("temporary folder");
        let (store, _) = faulty(&dir, 3, |call| {
            assert_eq!(call.nth, 0, "a full share is not asked again");
            Fault::Full
        })
        .await;
        let error = store.put_new(&object(), Bytes::from_static(b"abc")).await.expect_err("full");
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_attempt_that_did_happen_counts_and_a_foreign_one_does_not() {
        for path in [object(), ObjectPath::LogRecord(1)] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let lost = |call: &Call<'_>| {
                if call.op == Op::Put && call.nth == 0 { Fault::LostReply } else { Fault::None }
            };
            let (store, _) = faulty(&dir, 2, lost).await;
            store.put_new(&path, Bytes::from_static(b"abc")).await.expect("it had happened");
            let (store, file) = faulty(&dir, 3, lost).await;
            let error = store.put_new(&path, Bytes::from_static(b"xyz")).await.expect_err("another's");
            assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
            assert_eq!(file.get(&path, 3).await.expect("there"), &b"abc"[..]);
        }
    }

    #[tokio::test]
    async fn a_torn_object_is_never_taken_for_the_whole() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (store, file) = faulty(&dir, 3, |call| match (call.op, call.nth) {
            (Op::Put, 0) => Fault::ShortWrite(2),
            _ => Fault::None,
        })
        .await;
        let error = store.put_new(&object(), Bytes::from_static(b"abc")).await.expect_err("torn");
        assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
        assert_eq!(file.get(&object(), 3).await.expect("there"), &b"ab"[..]);
    }

    #[tokio::test]
    async fn a_delete_whose_answer_was_lost_succeeds() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (store, _) = faulty(&dir, 2, |call| match (call.op, call.nth) {
            (Op::Delete, 0) => Fault::LostReply,
            _ => Fault::None,
        })
        .await;
        store.put_new(&object(), Bytes::from_static(b"abc")).await.expect("written");
        store.delete(&object()).await.expect("deleted");
        assert!(matches!(store.delete(&object()).await, Err(StoreError::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_listing_of_nothing_is_empty_also_behind_a_stream_that_must_not_be_asked_twice() {
        let dir = tempfile::TempDir::new().expect("folder");
        let file: Arc<dyn Store> = Arc::new(FileStore::open(dir.path().to_owned()).await.expect("opens"));
        let limited = TimeLimited::new(file, Limit::default());
        let store = Retrying::new(Arc::new(limited), policy(2));
        let lines = store.list(&Prefix::Packs("dns-2".parse().expect("name"))).collect::<Vec<_>>().await;
        assert!(lines.is_empty(), "{lines:?}");
    }
}
