//! What tests of shares have in common: a configuration with credentials, and a share that locks what it is told to.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use muster_protocol::config::{Lock, ShareConfig};
use tempfile::NamedTempFile;

use super::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError};
use crate::credentials::Credentials;
use crate::layout::{ObjectPath, Prefix};

/// The configuration of a share with these credentials, and the file that it names.
pub(crate) fn at(url: String, credentials: &str) -> (ShareConfig, NamedTempFile) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(credentials.as_bytes()).expect("written");
    (ShareConfig { credentials: file.path().to_owned(), ..ShareConfig::at(url) }, file)
}

/// A share whose objects are locked when a test says so.
#[derive(Debug)]
pub(crate) struct Locking {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) lock: Lock,
    pub(crate) ends: Mutex<BTreeMap<ObjectPath, SystemTime>>,
    /// Nobody may renew the lock of this one.
    pub(crate) refuses: Option<ObjectPath>,
}

impl Locking {
    pub(crate) fn end(&self, path: &ObjectPath) -> Option<SystemTime> {
        self.ends.lock().expect("no panic").get(path).copied()
    }
}

#[async_trait]
impl Store for Locking {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put_new(path, bytes).await
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        self.inner.get(path, max_len).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        self.inner.head(path).await
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        match self.end(path).filter(|until| *until > SystemTime::now()) {
            Some(until) => Err(StoreError::Locked { path: path.to_string(), until }),
            None => self.inner.delete(path).await,
        }
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes().await
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.inner.accept(credentials)
    }

    fn lock(&self) -> Option<Lock> {
        Some(self.lock)
    }

    async fn locked_until(&self, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
        self.inner.head(path).await?;
        Ok(self.end(path))
    }

    async fn lock_until(&self, path: &ObjectPath, until: SystemTime) -> Result<(), StoreError> {
        if self.refuses.as_ref() == Some(path) {
            let source = std::io::Error::other("no right to");
            return Err(StoreError::WriteRefused { path: path.to_string(), source });
        }
        self.inner.head(path).await?;
        self.ends.lock().expect("no panic").insert(path.clone(), until);
        Ok(())
    }

    async fn cool(&self, path: &ObjectPath) {
        self.inner.cool(path).await;
    }

    fn exclusive(&self) -> Exclusive {
        self.inner.exclusive()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

/// Memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Lists what lies below `prefix`, and tells how many objects of how many bytes that were, and by how many KiB the memory of this process
/// grew meanwhile.
pub(crate) async fn listed(store: &dyn Store, prefix: &Prefix) -> (usize, u64, u64) {
    let before = resident();
    let (mut count, mut bytes, mut most) = (0, 0, 0);
    let mut lines = store.list(prefix);
    while let Some(line) = lines.next().await {
        match line.expect("a line") {
            Listed::Object { size, .. } => bytes += size,
            Listed::Foreign { name } => panic!("{name} is one of ours"),
        }
        count += 1;
        if count % 1_000 == 0 {
            most = most.max(resident());
        }
    }
    (count, bytes, most.saturating_sub(before))
}

/// Whether this process has no other test in it, as one that looks at its memory must not: if it has, the test is run in
/// a process of its own, and has passed there.
pub(crate) fn alone(test: &str) -> bool {
    const MARK: &str = "MUSTER_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let own = std::env::current_exe().expect("this program");
    let run = std::process::Command::new(own)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
    false
}
