//! A copy of the log of its own, read on for each request: whoever asks about the fleet gets in the way of nobody who leads it, and
//! one that follows answers as well as one that leads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_share::log::Log;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Longest that a request waits for the share.
const LIMIT: Duration = Duration::from_secs(5);

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
}

/// The copy.
#[derive(Debug)]
pub(super) struct Reader(Mutex<Held>);

impl Reader {
    /// A reader that goes on where this log stands.
    pub(super) fn of(log: Log) -> Self {
        let seen = Seen { log: Arc::new(log), unread: None };
        Self(Mutex::new(Held { seen, began: None }))
    }

    /// What the log says now. Those who ask at the same time read it once.
    pub(super) async fn read(&self) -> Seen {
        let asked = Instant::now();
        let mut held = self.0.lock().await;
        if held.began.is_some_and(|began| began >= asked) {
            return held.seen.clone();
        }
        held.began = Some(Instant::now());
        let log = Arc::make_mut(&mut held.seen.log);
        let unread = match timeout(LIMIT, log.refresh()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(Unread { code: error.alert(), why: causes(&error) }),
            Err(_) => Some(Unread {
                code: Some(Code::Share07),
                why: format!("the share did not answer within {} s", LIMIT.as_secs()),
            }),
        };
        held.seen.unread = unread;
        held.seen.clone()
    }

    /// What it said when it was last read.
    pub(super) async fn known(&self) -> Seen {
        self.0.lock().await.seen.clone()
    }
}
