//! A few sessions for all calls: each call gets the one with the least to do.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use super::session::Session;
use crate::store::StoreError;
use crate::store::address::SmbAddress;
use crate::store::secret::SmbSecret;

/// Connections at most.
const SESSIONS: usize = 4;

/// The sessions of one share. Dialed when they are needed, and again when they have died or the credentials changed.
pub(super) struct Pool {
    address: SmbAddress,
    secret: RwLock<Arc<SmbSecret>>,
    /// Counts the secrets: sessions of an older one serve no further calls.
    age: AtomicU64,
    slots: [Slot; SESSIONS],
}

#[derive(Default)]
struct Slot {
    session: Mutex<Option<(u64, Arc<Session>)>>,
    calls: AtomicUsize,
}

/// A session for one call.
pub(super) struct Lease<'a> {
    session: Arc<Session>,
    _count: Count<'a>,
}

struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Lease<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Pool {
    pub(super) fn new(address: SmbAddress, secret: SmbSecret) -> Self {
        let secret = RwLock::new(Arc::new(secret));
        Self { address, secret, age: AtomicU64::new(0), slots: Default::default() }
    }

    pub(super) fn address(&self) -> &SmbAddress {
        &self.address
    }

    /// These credentials from now on. Calls under way go on with those that they began with.
    pub(super) fn replace(&self, secret: SmbSecret) {
        let mut slot = self.secret.write().unwrap_or_else(PoisonError::into_inner);
        if **slot != secret {
            *slot = Arc::new(secret);
            self.age.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn secret(&self) -> (u64, Arc<SmbSecret>) {
        let secret = self.secret.read().unwrap_or_else(PoisonError::into_inner);
        (self.age.load(Ordering::Relaxed), Arc::clone(&secret))
    }

    pub(super) async fn lease(&self) -> Result<Lease<'_>, StoreError> {
        let least = self.slots.iter().min_by_key(|slot| slot.calls.load(Ordering::Relaxed));
        let slot = least.unwrap_or(&self.slots[0]);
        slot.calls.fetch_add(1, Ordering::Relaxed);
        let count = Count(&slot.calls);
        let mut kept = slot.session.lock().await;
        let (age, secret) = self.secret();
        if let Some((of, session)) = &*kept
            && *of == age
            && session.is_alive()
        {
            return Ok(Lease { session: Arc::clone(session), _count: count });
        }
        *kept = None;
        let session = Arc::new(Session::dial(&self.address, &secret).await?);
        *kept = Some((age, Arc::clone(&session)));
        Ok(Lease { session, _count: count })
    }
}
