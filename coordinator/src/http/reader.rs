//! A copy of the log of its own, read on for each request: whoever asks about the fleet gets in the way of nobody who leads it, and
//! one that follows answers as well as one that leads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_share::log::Log;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::scribe::GAP_LOOK;

/// Longest that a request waits for the share.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a share that did not answer is not asked again: those who wait would wait one after the other.
const SPARED: Duration = Duration::from_secs(2);

/// Why the log could not be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) code: Option<Code>,
    pub(super) why: String,
}

/// The log as it was last read.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) log: Arc<Log>,
    /// Why it may be behind; none: it is the newest.
    pub(super) unread: Option<Unread>,
}

#[derive(Debug)]
struct Held {
    seen: Seen,
    /// When it was begun to be read: whoever asked before that need not read it again.
    began: Option<Instant>,
    /// When that failed last.
    failed: Option<Instant>,
    /// When the slots above the head were last looked at.
    looked: Instant,
}

/// The copy.
#[derive(Debug)]
pub(super) struct Reader(Mutex<Held>);

impl Reader {
    /// A reader that goes on where this log stands.
    pub(super) fn of(log: Log) -> Self {
        let seen = Seen { log: Arc::new(log), unread: None };
        // Whoever opened the log has just looked above its head.
        Self(Mutex::new(Held { seen, began: None, failed: None, looked: Instant::now() }))
    }

    /// What the log says now. Those who ask at the same time read it once.
    pub(super) async fn read(&self) -> Seen {
        let asked = Instant::now();
        let mut held = self.0.lock().await;
        let spared = held.failed.is_some_and(|failed| failed.elapsed() < SPARED);
        if spared || held.began.is_some_and(|began| began >= asked) {
            return held.seen.clone();
        }
        held.began = Some(Instant::now());
        let whole = held.looked.elapsed() >= GAP_LOOK;
        let log = Arc::make_mut(&mut held.seen.log);
        let read = async {
            log.refresh().await?;
            if whole { log.refuse_gap().await } else { Ok(()) }
        };
        let unread = match timeout(LIMIT, read).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Unread { code: error.alert(), why: causes(&error) }),
            Err(_) => Some(Unread {
                code: Some(Code::Share07),
                why: format!("the share did not answer within {} s", LIMIT.as_secs()),
            }),
        };
        held.failed = unread.is_some().then(Instant::now);
        if whole && unread.is_none() {
            held.looked = Instant::now();
        }
        held.seen.unread = unread;
        held.seen.clone()
    }

    /// What it said when it was last read.
    pub(super) async fn known(&self) -> Seen {
        self.0.lock().await.seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use muster_protocol::age;
    use muster_protocol::log::{Change, Member, Pin, Role};
    use muster_share::entropy::OsEntropy;
    use muster_share::log::Log;
    use muster_share::store::Store;
    use muster_share::store::faults::{Fault, Faulty};

    use super::Reader;
    use crate::fixture::{change, led, signer};

    #[tokio::test]
    async fn the_newest_log_is_seen_and_an_absent_share_is_told_with_what_was_known() {
        let (_folder, store, mut log) = led().await;
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let faulty: Arc<dyn Store> = Arc::new(Faulty::new(store, move |_| {
            if gone.load(Ordering::Relaxed) { Fault::Unreachable } else { Fault::None }
        }));
        let reader = Reader::of(Log::open(faulty, Pin::default()).await.expect("opens"));
        let before = reader.read().await;
        let sealing = age::Identity::generate(&mut OsEntropy).recipient();
        let role = Role::Agent { service: "mail".parse().expect("a name"), sealing };
        let member = Member { key: signer(40).key_id(), name: "mail".parse().expect("a name"), role };
        change(&mut log, vec![Change::Admit(member)]).await;
        let after = reader.read().await;
        assert_eq!((before.unread, after.unread.as_ref()), (None, None));
        assert_eq!(after.log.head(), log.head());
        assert_eq!(
            before.log.head().number + 1,
            after.log.head().number,
            "who holds an earlier one keeps it"
        );
        away.store(true, Ordering::Relaxed);
        let known = reader.read().await;
        assert!(known.unread.is_some_and(|unread| unread.code.is_some()));
        assert_eq!(known.log.head(), log.head());
        assert_eq!(reader.known().await.log.head(), log.head());
    }
}
