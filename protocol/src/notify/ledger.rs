//! What was told over one channel, and what is to be told next.
//!
//! ```text
//! not told ──opened──▶ open ──closed──▶ calm for a while (or not told)
//!                       └─ still open, nobody acknowledged, repeat is over ─▶ told again
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::{About, Alert, AlertId, Book, Code, Severity};
use crate::ids::ChannelName;
use crate::notify::{Event, Kind, What};
use crate::time::UnixMillis;

/// How long what was open before this coordinator led is gathered, while the log is read.
pub const SETTLE: Duration = Duration::from_secs(10);
/// An alert that closed is not told to be open again sooner, unless it is critical: one that comes and goes gives no storm.
pub const CALM: Duration = Duration::from_secs(15 * 60);
/// What the book has forgotten is remembered for so long, and no longer.
const FORGOTTEN: Duration = Duration::from_secs(7 * 86_400);

/// What is told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing.
    Never,
    /// What is open and nobody has acknowledged, so long after it was last told.
    Unacknowledged(Duration),
    /// Whatever is open: the other side forgets what it does not hear of again.
    Everything(Duration),
}

/// What a channel is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Its name: its own failures are told over the others.
    pub channel: ChannelName,
    /// What is less bad is not told.
    pub least: Severity,
    /// What is told again.
    pub repeat: Repeat,
    /// What is not critical comes in one message each period; none: at once.
    pub digest: Option<Duration>,
}

/// What a channel said last of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    since: UnixMillis,
    at: UnixMillis,
    open: bool,
}

/// What was told over one channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    told: BTreeMap<AlertId, Told>,
    /// Openings that are on their way: whether they arrived is not known if the process ends now. What is still open is told once
    /// more then; what is over is told to be over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    telling: BTreeMap<AlertId, UnixMillis>,
    /// When the last digest went, or would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest_at: Option<UnixMillis>,
}

/// What there is to say.
#[derive(Default)]
struct Pending {
    news: Vec<Event>,
    again: Vec<Event>,
}

impl Ledger {
    /// What is to be told next, if anything. `began` is when this coordinator began to lead, `room` how many messages may go now: the
    /// last of them takes all that is left.
    pub fn next(
        &mut self,
        book: &Book,
        terms: &Terms,
        began: UnixMillis,
        now: UnixMillis,
        room: usize,
    ) -> Option<(Kind, Vec<Event>)> {
        self.forget(book, now);
        if room == 0 {
            return None;
        }
        let Pending { news, again } = self.pending(book, terms, now);
        let waits =
            |event: &Event| terms.digest.is_some() && event.alert.code.severity() < Severity::Critical;
        let (digest, news): (Vec<_>, Vec<_>) = news.into_iter().partition(waits);
        let (before, mut news): (Vec<_>, Vec<_>) =
            news.into_iter().partition(|event| happened(event) < began);
        if !before.is_empty() && elapsed(began, now) >= SETTLE {
            return Some((Kind::Before, sorted(before)));
        }
        news = sorted(news);
        if news.len() > room && room == 1 {
            return Some((Kind::Several, news));
        }
        if let Some(first) = news.into_iter().next() {
            return Some((Kind::Alert, vec![first]));
        }
        let again: Vec<_> = again.into_iter().filter(|event| !waits(event)).collect();
        if !again.is_empty() {
            return Some((Kind::Repeat, sorted(again)));
        }
        self.digest(book, terms, digest, began, now)
    }

    fn digest(
        &mut self,
        book: &Book,
        terms: &Terms,
        mut events: Vec<Event>,
        began: UnixMillis,
        now: UnixMillis,
    ) -> Option<(Kind, Vec<Event>)> {
        let period = terms.digest?;
        let last = *self.digest_at.get_or_insert(began);
        // A clock that was set back must not silence it.
        if elapsed(last, now) < period && now >= last {
            return None;
        }
        let news: BTreeSet<AlertId> = events.iter().map(|event| event.alert.id()).collect();
        let known = |alert: &&Alert| {
            wanted(alert, terms)
                && alert.code.severity() < Severity::Critical
                && alert.acknowledged.is_none()
                && !news.contains(&alert.id())
        };
        let open = book.open().filter(known).filter(|alert| self.is_open(alert.id()));
        let open: Vec<Event> = open.map(|alert| Event { what: What::Open, alert: alert.clone() }).collect();
        events.extend(open);
        if events.is_empty() {
            self.digest_at = Some(now);
            return None;
        }
        Some((Kind::Digest, sorted(events)))
    }

    /// What tells that this alert is open, if it is for the channel and was not told yet.
    #[must_use]
    pub fn opening(&self, alert: &Alert, terms: &Terms) -> Option<Event> {
        let untold = wanted(alert, terms) && !self.is_open(alert.id());
        untold.then(|| Event { what: What::Opened, alert: alert.clone() })
    }

    /// These events are about to be told; true if that must be kept before they are.
    pub fn begin(&mut self, events: &[Event]) -> bool {
        let mut news = false;
        for event in events.iter().filter(|event| event.what != What::Closed) {
            let (id, since) = (event.alert.id(), event.alert.since);
            if !self.is_open(id) {
                news |= self.telling.insert(id, since) != Some(since);
            }
        }
        news
    }

    /// These events were not told, and will not be as they are.
    pub fn give_up(&mut self, events: &[Event]) {
        for event in events {
            self.telling.remove(&event.alert.id());
        }
    }

    /// These events were told.
    pub fn take(&mut self, kind: Kind, events: &[Event], now: UnixMillis) {
        self.give_up(events);
        for event in events {
            let open = event.what != What::Closed;
            self.told.insert(event.alert.id(), Told { since: event.alert.since, at: now, open });
        }
        if kind == Kind::Digest {
            self.digest_at = Some(now);
        }
    }

    /// When anything was last said of these events; nothing yet: 0.
    #[must_use]
    pub fn last_told(&self, events: &[Event]) -> UnixMillis {
        let told = events.iter().filter_map(|event| self.told.get(&event.alert.id()));
        told.map(|told| told.at).max().unwrap_or_default()
    }

    fn is_open(&self, id: AlertId) -> bool {
        self.told.get(&id).is_some_and(|told| told.open)
    }

    fn pending(&self, book: &Book, terms: &Terms, now: UnixMillis) -> Pending {
        let mut pending = Pending::default();
        let mut open = BTreeSet::new();
        for alert in book.open().filter(|alert| wanted(alert, terms)) {
            open.insert(alert.id());
            let event = |what| Event { what, alert: alert.clone() };
            let known = alert.acknowledged.is_some();
            match self.told.get(&alert.id()) {
                Some(told) if told.open => {
                    let again = match terms.repeat {
                        Repeat::Never => false,
                        Repeat::Unacknowledged(after) => !known && elapsed(told.at, now) >= after,
                        Repeat::Everything(after) => elapsed(told.at, now) >= after,
                    };
                    if again {
                        pending.again.push(event(What::Open));
                    }
                }
                Some(told) if is_calm(alert.code, told, now) => {}
                Some(_) | None => {
                    if !known || matches!(terms.repeat, Repeat::Everything(_)) {
                        pending.news.push(event(What::Opened));
                    }
                }
            }
        }
        // The newest closing of each alert that was told to be open.
        let closed = book.history().filter(|alert| !open.contains(&alert.id()));
        let closed = closed.filter(|alert| {
            let told = self.told.get(&alert.id()).filter(|told| told.open).map(|told| told.since);
            let since = told.or_else(|| self.telling.get(&alert.id()).copied());
            since.is_some_and(|since| alert.closed.is_some_and(|closed| closed >= since))
        });
        let newest: BTreeMap<AlertId, &Alert> = closed.map(|alert| (alert.id(), alert)).collect();
        pending
            .news
            .extend(newest.into_values().map(|alert| Event { what: What::Closed, alert: alert.clone() }));
        pending
    }

    /// Drops what is of no use any more, so that it grows with the book and no further.
    fn forget(&mut self, book: &Book, now: UnixMillis) {
        let known: BTreeSet<AlertId> = book.open().chain(book.history()).map(Alert::id).collect();
        self.telling.retain(|id, _| known.contains(id));
        self.told.retain(|id, told| {
            let age = elapsed(told.at, now);
            if told.open { known.contains(id) || age < FORGOTTEN } else { age < CALM }
        });
    }
}

/// Whether a channel is for an alert at all.
fn wanted(alert: &Alert, terms: &Terms) -> bool {
    let own = alert.code == Code::Notify01 && alert.about == About::Channel(terms.channel.clone());
    alert.code.severity() >= terms.least && !own
}

fn is_calm(code: Code, told: &Told, now: UnixMillis) -> bool {
    // Another anomaly of the same service is no wavering of the one that was accepted: each is a new fact.
    code.severity() < Severity::Critical && code != Code::Round06 && elapsed(told.at, now) < CALM
}

fn happened(event: &Event) -> UnixMillis {
    match event.what {
        What::Opened | What::Open => event.alert.since,
        What::Closed => event.alert.closed.unwrap_or(event.alert.last),
    }
}

/// The worst first, then in the order in which it happened.
fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| {
        let severity = std::cmp::Reverse(event.alert.code.severity());
        (event.what == What::Closed, severity, happened(event), event.alert.id())
    });
    events
}

fn elapsed(from: UnixMillis, to: UnixMillis) -> Duration {
    Duration::from_millis(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}
