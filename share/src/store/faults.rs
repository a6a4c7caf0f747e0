//! A store that misbehaves on demand, for tests: it fails, cuts short, flips, forgets, loses replies or dawdles.
//!
//! Never part of a running fleet.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use muster_protocol::config::Lock;

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `put_new`.
    Put,
    /// `get` and `get_range`.
    Get,
    /// `head`.
    Head,
    /// `list`.
    List,
    /// `delete`.
    Delete,
    /// `locked_until` and `lock_until`.
    Lock,
    /// `free_bytes`.
    FreeBytes,
}

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Which.
    pub op: Op,
    /// The object's path, the listed prefix, or nothing.
    pub path: &'a str,
    /// How many calls of this kind were made to this path before.
    pub nth: u64,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails with [`StoreError::Unreachable`] and was not made.
    Unreachable,
    /// It fails with [`StoreError::Full`] and was not made.
    Full,
    /// It fails with [`StoreError::Denied`], a write with [`StoreError::WriteRefused`], and was not made.
    Refused,
    /// It is made, and reported as failed with [`StoreError::Io`].
    LostReply,
    /// A write stores only so many bytes and fails with [`StoreError::Io`]; a read gives only so many.
    ShortWrite(usize),
    /// The bit of this number, modulo the length, changes on its way, and nobody says so.
    Flip(usize),
    /// A write, delete or lock is reported as done and is not made; a lock is not told of.
    Forget,
    /// It fails with [`StoreError::NotFound`], and a listing is empty: what an empty folder answers, where the share is away.
    Absent,
    /// It is made after this long.
    Delay(Duration),
}

type Rule = dyn Fn(&Call<'_>) -> Fault + Send + Sync;

/// `inner` under a rule that names the fault of each call.
pub struct Faulty {
    inner: Arc<dyn Store>,
    rule: Box<Rule>,
    made: Mutex<HashMap<(Op, String), u64>>,
}

impl Faulty {
    /// `inner` under this rule.
    pub fn new(inner: Arc<dyn Store>, rule: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static) -> Self {
        Self { inner, rule: Box::new(rule), made: Mutex::default() }
    }

    fn fault(&self, op: Op, path: &str) -> Fault {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let count = made.entry((op, path.to_owned())).or_default();
        let nth = *count;
        *count += 1;
        drop(made);
        (self.rule)(&Call { op, path, nth })
    }

    /// The error of a call that is not made; `None` when it is.
    async fn before(fault: &Fault, op: Op, path: &str) -> Result<(), StoreError> {
        let source = || io::Error::other("injected fault");
        let path = || path.to_owned();
        match fault {
            Fault::Unreachable => Err(StoreError::Unreachable { path: path(), source: source() }),
            Fault::Full => Err(StoreError::Full { path: path(), source: source() }),
            Fault::Absent => Err(StoreError::NotFound { path: path() }),
            Fault::Refused => Err(match op {
                Op::Put | Op::Delete | Op::Lock => {
                    StoreError::WriteRefused { path: path(), source: source() }
                }
                Op::Get | Op::Head | Op::List | Op::FreeBytes => {
                    StoreError::Denied { path: path(), source: source() }
                }
            }),
            Fault::Delay(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Fault::None | Fault::LostReply | Fault::ShortWrite(_) | Fault::Flip(_) | Fault::Forget => Ok(()),
        }
    }

    fn after<T>(fault: &Fault, path: &str, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match fault {
            Fault::LostReply => {
                done?;
                Err(StoreError::Io {
                    path: path.to_owned(),
                    source: io::Error::other("injected: reply lost"),
                })
            }
            Fault::None
            | Fault::Unreachable
            | Fault::Full
            | Fault::Refused
            | Fault::Absent
            | Fault::ShortWrite(_)
            | Fault::Flip(_)
            | Fault::Forget
            | Fault::Delay(_) => done,
        }
    }
}

fn bent(fault: &Fault, bytes: Bytes) -> Bytes {
    match *fault {
        Fault::ShortWrite(len) => bytes.slice(..len.min(bytes.len())),
        Fault::Flip(bit) if !bytes.is_empty() => {
            let mut changed = bytes.to_vec();
            let bit = bit % (changed.len() * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(changed)
        }
        Fault::Flip(_)
        | Fault::None
        | Fault::Unreachable
        | Fault::Full
        | Fault::Refused
        | Fault::Absent
        | Fault::LostReply
        | Fault::Forget
        | Fault::Delay(_) => bytes,
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Faulty {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        let name = path.to_string();
        let fault = self.fault(Op::Put, &name);
        Self::before(&fault, Op::Put, &name).await?;
        if fault == Fault::Forget {
            return Ok(());
        }
        let done = self.inner.put_new(path, bent(&fault, bytes)).await;
        if let Fault::ShortWrite(_) = fault {
            done?;
            return Err(StoreError::Io { path: name, source: io::Error::other("injected: short write") });
        }
        Self::after(&fault, &name, done)
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        let name = path.to_string();
        let fault = self.fault(Op::Get, &name);
        Self::before(&fault, Op::Get, &name).await?;
        let done = self.inner.get(path, max_len).await.map(|bytes| bent(&fault, bytes));
        Self::after(&fault, &name, done)
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let name = path.to_string();
        let fault = self.fault(Op::Get, &name);
        Self::before(&fault, Op::Get, &name).await?;
        let done = self.inner.get_range(path, range).await.map(|bytes| bent(&fault, bytes));
        Self::after(&fault, &name, done)
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        let name = path.to_string();
        let fault = self.fault(Op::Head, &name);
        Self::before(&fault, Op::Head, &name).await?;
        Self::after(&fault, &name, self.inner.head(path).await)
    }

    /// [`Fault::ShortWrite`] ends the listing after so many lines, without an error: a share that lies.
    /// [`Fault::LostReply`] ends it with one.
    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        let prefix = prefix.clone();
        let begin = async move {
            let name = prefix.to_string();
            let fault = self.fault(Op::List, &name);
            if fault == Fault::Absent {
                return stream::empty().boxed();
            }
            if let Err(error) = Self::before(&fault, Op::List, &name).await {
                return stream::iter([Err(error)]).boxed();
            }
            let lines = self.inner.list(&prefix);
            match fault {
                Fault::ShortWrite(count) => lines.take(count).boxed(),
                Fault::LostReply => lines
                    .chain(stream::iter([Self::after(
                        &fault,
                        &name,
                        Ok(Listed::Foreign { name: String::new() }),
                    )]))
                    .boxed(),
                Fault::None
                | Fault::Unreachable
                | Fault::Full
                | Fault::Refused
                | Fault::Absent
                | Fault::Flip(_)
                | Fault::Forget
                | Fault::Delay(_) => lines,
            }
        };
        stream::once(begin).flatten().boxed()
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let name = path.to_string();
        let fault = self.fault(Op::Delete, &name);
        Self::before(&fault, Op::Delete, &name).await?;
        if fault == Fault::Forget {
            return Ok(());
        }
        Self::after(&fault, &name, self.inner.delete(path).await)
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let fault = self.fault(Op::FreeBytes, "");
        Self::before(&fault, Op::FreeBytes, "").await?;
        Self::after(&fault, "", self.inner.free_bytes().await)
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.inner.accept(credentials)
    }

    fn lock(&self) -> Option<Lock> {
        self.inner.lock()
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        let name = path.to_string();
        let fault = self.fault(Op::Lock, &name);
        Self::before(&fault, Op::Lock, &name).await?;
        if fault == Fault::Forget {
            return Ok(None);
        }
        Self::after(&fault, &name, self.inner.locked_until(path).await)
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        let name = path.to_string();
        let fault = self.fault(Op::Lock, &name);
        Self::before(&fault, Op::Lock, &name).await?;
        if fault == Fault::Forget {
            return Ok(());
        }
        Self::after(&fault, &name, self.inner.lock_until(path, until).await)
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
    use super::{Fault, Faulty, Op};
    use crate::layout::{ObjectPath, Prefix};
    use crate::store::{FileStore, Store, StoreError, conformance};
    use bytes::Bytes;
    use futures::StreamExt;
    use std::sync::Arc;

    #[tokio::test]
    async fn without_faults_it_conforms() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = FileStore::open(dir.path().to_owned()).await.expect("opens");
        conformance::all(Arc::new(Faulty::new(Arc::new(file), |_| Fault::None))).await;
    }

    #[tokio::test]
    async fn faults_do_what_they_say() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file: Arc<dyn Store> = Arc::new(FileStore::open(dir.path().to_owned()).await.expect("opens"));
        let store = Faulty::new(Arc::clone(&file), |call| match (call.op, call.path) {
            (Op::Put, "log/0000000001") => Fault::Forget,
            (Op::Put, "log/0000000002") => Fault::Flip(9),
            (Op::Put, "log/0000000003") => Fault::Refused,
            (Op::List, _) => Fault::ShortWrite(1),
            _ => Fault::None,
        });
        let store = &store;
        let put =
            |n| async move { store.put_new(&ObjectPath::LogRecord(n), Bytes::from_static(&[0, 0])).await };
        put(1).await.expect("claims so");
        assert!(matches!(file.head(&ObjectPath::LogRecord(1)).await, Err(StoreError::NotFound { .. })));
        put(2).await.expect("claims so");
        assert_eq!(file.get(&ObjectPath::LogRecord(2), 2).await.expect("there"), &[0, 2][..]);
        assert!(matches!(put(3).await, Err(StoreError::WriteRefused { .. })));
        put(4).await.expect("written");
        assert_eq!(store.list(&Prefix::Log).collect::<Vec<_>>().await.len(), 1);
    }
}
