//! The work queue inside one process: jobs in order, one worker each, given out again unless done.

use crate::{BusError, Delivery, Enqueued, Job, Limits, MSG_ID, Message, Settlement, WorkQueue};
use async_trait::async_trait;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Most ids that are remembered at once, whatever the window: bounds the memory against a flood of ids.
const REMEMBERED_IDS: usize = 65_536;

/// The stored jobs, shared by all workers.
pub(crate) struct Jobs {
    state: Mutex<State>,
    /// Tells waiting workers that something changed.
    changed: watch::Sender<()>,
    most: usize,
    window: Duration,
    age: Duration,
}

#[derive(Default)]
struct State {
    closed: bool,
    sequence: u64,
    ready: VecDeque<Stored>,
    given_out: usize,
    ids: HashMap<String, u64>,
    ids_by_age: VecDeque<(Instant, String)>,
}

struct Stored {
    id: String,
    message: Message,
    stored_at: Instant,
    not_before: Instant,
    deliveries: u64,
}

impl Jobs {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::channel(()).0,
            most: usize::try_from(limits.queued_jobs).unwrap_or(usize::MAX),
            window: limits.duplicate_window,
            age: limits.job_age,
        }
    }

    /// Stores a job, unless one with its id is known; `None` when the queue is full.
    pub(crate) fn push(&self, message: &Message) -> Option<Enqueued> {
        let now = Instant::now();
        let mut state = self.lock();
        state.forget(now, self.window, self.age);
        if let Some(sequence) = message.header(MSG_ID).and_then(|id| state.ids.get(id)) {
            return Some(Enqueued { sequence: *sequence, duplicate: true });
        }
        if state.ready.len() + state.given_out >= self.most {
            return None;
        }
        state.sequence += 1;
        let sequence = state.sequence;
        if let Some(id) = message.header(MSG_ID) {
            state.ids.insert(id.to_owned(), sequence);
            state.ids_by_age.push_back((now, id.to_owned()));
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        state.ready.push_back(Stored {
            id: format!("{sequence}-{}", since.as_nanos()),
            message: message.clone(),
            stored_at: now,
            not_before: now,
            deliveries: 0,
        });
        drop(state);
        self.changed.send_replace(());
        Some(Enqueued { sequence, duplicate: false })
    }

    /// Ends the waits of all workers.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, stored: Stored, settlement: Settlement) {
        let mut state = self.lock();
        state.given_out = state.given_out.saturating_sub(1);
        match settlement {
            Settlement::Done => {}
            Settlement::Again(delay) => {
                let not_before = Instant::now() + delay;
                state.ready.push_front(Stored { not_before, ..stored });
            }
        }
        drop(state);
        self.changed.send_replace(());
    }
}

impl State {
    fn forget(&mut self, now: Instant, window: Duration, age: Duration) {
        while let Some((seen, id)) = self.ids_by_age.front() {
            if now.duration_since(*seen) < window && self.ids_by_age.len() < REMEMBERED_IDS {
                break;
            }
            self.ids.remove(id);
            self.ids_by_age.pop_front();
        }
        self.ready.retain(|stored| now.duration_since(stored.stored_at) < age);
    }

    /// Takes the first job whose time has come, or says when the next one's will.
    fn take(&mut self, now: Instant) -> Result<Stored, Option<Instant>> {
        match self.ready.iter().position(|stored| stored.not_before <= now) {
            Some(index) => {
                let mut stored = self.ready.remove(index).expect("the position was just found");
                stored.deliveries += 1;
                self.given_out += 1;
                Ok(stored)
            }
            None => Err(self.ready.iter().map(|stored| stored.not_before).min()),
        }
    }
}

/// One worker.
pub(crate) struct EmbeddedQueue {
    jobs: Arc<Jobs>,
}

impl EmbeddedQueue {
    pub(crate) fn new(jobs: Arc<Jobs>) -> Self {
        Self { jobs }
    }
}

#[async_trait]
impl WorkQueue for EmbeddedQueue {
    async fn next(&mut self, wait: Duration) -> Result<Option<Job>, BusError> {
        let deadline = Instant::now() + wait;
        let mut changed = self.jobs.changed.subscribe();
        loop {
            let now = Instant::now();
            let taken = {
                let mut state = self.jobs.lock();
                if state.closed {
                    return Err(BusError::Closed);
                }
                state.forget(now, self.jobs.window, self.jobs.age);
                state.take(now)
            };
            let wake = match taken {
                Ok(stored) => return Ok(Some(give_out(Arc::clone(&self.jobs), stored))),
                Err(next) => next.map_or(deadline, |next| next.min(deadline)),
            };
            if now >= deadline {
                return Ok(None);
            }
            tokio::select! {
                // The sender lives in `self.jobs`, so this only ever reports a change.
                _ = changed.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
    }
}

fn give_out(jobs: Arc<Jobs>, stored: Stored) -> Job {
    let Message { subject, headers, payload, reply: _ } = stored.message.clone();
    let deliveries = stored.deliveries;
    let id = stored.id.clone();
    Job::new(id, subject, headers, payload, deliveries, Box::new(GivenOut { jobs, stored: Some(stored) }))
}

struct GivenOut {
    jobs: Arc<Jobs>,
    stored: Option<Stored>,
}

#[async_trait]
impl Delivery for GivenOut {
    async fn settle(&mut self, settlement: Settlement) -> Result<(), BusError> {
        if let Some(stored) = self.stored.take() {
            self.jobs.settle(stored, settlement);
        }
        Ok(())
    }
}

impl Drop for GivenOut {
    fn drop(&mut self) {
        if let Some(stored) = self.stored.take() {
            self.jobs.settle(stored, Settlement::Again(Duration::ZERO));
        }
    }
}
