//! The book of alerts: each condition once, with how often and since when; bounded whatever is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::alert::{About, AlertId, AlertRef, Closing, Code, Part};
use crate::ids::{KeyId, MemberName, ServiceName};
use crate::time::UnixMillis;

/// Most alerts that are open at once. A worse one takes the place of a lesser one; what finds none is counted.
pub const MAX_OPEN: usize = 1_000;
/// Most closed alerts that are kept; the oldest go first.
pub const MAX_HISTORY: usize = 200;
/// Most closed openings of one alert that are kept, so that one that comes and goes drives out no other.
const MAX_OPENINGS: usize = 5;
/// Most keys of which one code speaks singly; what the others do is told of [`Part::OtherKeys`].
pub const MAX_KEYS: usize = 32;
/// Longest cause, in bytes.
pub const MAX_CAUSE_LEN: usize = 400;

/// What a finding rests on. An alert is open as long as one of the two holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// It was seen: it closes as [`Code::closing`] says.
    Seen,
    /// The round of this number told it: it closes with a later verified round.
    Round(u64),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// Of whom.
    pub about: About,
    /// The native error or the figures, for people. Cut to [`MAX_CAUSE_LEN`]; control characters are left out.
    pub cause: String,
    /// What it rests on.
    pub basis: Basis,
    /// How often it happened.
    pub times: u64,
}

impl Finding {
    /// Something that was seen once.
    #[must_use]
    pub fn seen(code: Code, about: About, cause: impl Into<String>) -> Self {
        Self { code, about, cause: cause.into(), basis: Basis::Seen, times: 1 }
    }

    /// Something that a round told.
    #[must_use]
    pub fn of_round(number: u64, code: Code, about: About, cause: impl Into<String>) -> Self {
        Self { code, about, cause: cause.into(), basis: Basis::Round(number), times: 1 }
    }
}

/// Who has seen an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The operator's name in the roster.
    pub by: MemberName,
    /// When.
    pub at: UnixMillis,
}

/// What closed an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClosedBy {
    /// It was seen to be mended.
    Mended,
    /// The round of this number.
    Round(u64),
    /// Whoever acknowledged it: an event is over with that.
    Acknowledgement,
    /// It was an event, and has not happened again for long enough.
    Quiet,
    /// What it is about is no more: the service left the roster, or the round was pruned.
    Gone,
}

/// One opening of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What.
    pub code: Code,
    /// Of whom.
    pub about: About,
    /// The newest cause.
    pub cause: String,
    /// When it was first told.
    pub since: UnixMillis,
    /// When it was last told.
    pub last: UnixMillis,
    /// How often: events, rounds, or times that the condition began.
    pub count: u64,
    /// Whether it was seen and not seen mended.
    pub seen: bool,
    /// The newest round that told it, until a later one is verified.
    pub round: Option<u64>,
    /// Who knows of it.
    pub acknowledged: Option<Acknowledged>,
    /// When it closed.
    pub closed: Option<UnixMillis>,
    /// What closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// The operator who accepted that it is so: with that it closed, as if it were mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_by: Option<String>,
}

impl Alert {
    /// Its id, the same for every opening.
    #[must_use]
    pub fn id(&self) -> AlertId {
        AlertId::of(self.code, &self.about.to_string())
    }

    /// This opening.
    #[must_use]
    pub fn reference(&self) -> AlertRef {
        AlertRef { id: self.id(), since: self.since }
    }
}

/// What a finding did to the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An alert opened.
    Opened,
    /// One that was open was told again, or is no longer true in one of its ways.
    Changed,
    /// An alert closed.
    Closed,
    /// Nothing is different.
    Nothing,
}

/// There is no such opening of an alert now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "alert {reference} is not open: it closed, or opened anew since; `muster alerts` names those that are"
)]
pub struct NotOpen {
    /// What was named.
    pub reference: AlertRef,
}

/// What is wrong, and what was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Book {
    open: BTreeMap<AlertId, Alert>,
    /// Oldest first.
    history: VecDeque<Alert>,
    /// Findings that found no place.
    #[serde(default)]
    passed_over: u64,
}

impl Book {
    /// What is wrong now, by id.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.open.values()
    }

    /// What was wrong, in the order in which it closed.
    pub fn history(&self) -> impl Iterator<Item = &Alert> {
        self.history.iter()
    }

    /// The open alert that says this.
    #[must_use]
    pub fn find(&self, code: Code, about: &About) -> Option<&Alert> {
        self.open.get(&AlertId::of(code, &about.to_string()))
    }

    /// How many findings found no place, because [`MAX_OPEN`] as bad or worse were open.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Takes a finding in, at calendar time `at`.
    pub fn raise(&mut self, finding: Finding, at: UnixMillis) -> Change {
        let Finding { code, about, cause, basis, times } = finding;
        let about = self.known_key(code, about);
        let id = AlertId::of(code, &about.to_string());
        let cause = shown(&cause);
        if let Some(alert) = self.open.get_mut(&id) {
            return alert.again(cause, basis, times, at);
        }
        if !self.has_place(code) {
            self.passed_over = self.passed_over.saturating_add(times);
            return Change::Nothing;
        }
        let (seen, round) = match basis {
            Basis::Seen => (true, None),
            Basis::Round(number) => (false, Some(number)),
        };
        let alert = Alert {
            code,
            about,
            cause,
            since: at,
            last: at,
            count: times,
            seen,
            round,
            acknowledged: None,
            closed: None,
            closed_by: None,
            accepted_by: None,
        };
        self.open.insert(id, alert);
        Change::Opened
    }

    /// What was seen is seen to be mended.
    pub fn mended(&mut self, code: Code, about: &About, at: UnixMillis) -> Change {
        self.settle(AlertId::of(code, &about.to_string()), at, ClosedBy::Mended, |alert| {
            alert.seen = false;
        })
    }

    /// Somebody who may has said that it is meant to be so.
    pub(super) fn accepted(&mut self, code: Code, about: &About, by: String, at: UnixMillis) -> Change {
        self.settle(AlertId::of(code, &about.to_string()), at, ClosedBy::Mended, |alert| {
            alert.seen = false;
            alert.accepted_by = Some(by);
        })
    }

    /// An agent that rounds up to this one told to be silent was heard of since.
    pub fn heard(&mut self, about: &About, number: u64, at: UnixMillis) -> Change {
        let id = AlertId::of(Code::Agent01, &about.to_string());
        self.settle(id, at, ClosedBy::Mended, |alert| alert.before(number))
    }

    /// What rounds up to this one told is mended, by a verified one.
    pub fn mended_by_round(&mut self, code: Code, about: &About, number: u64, at: UnixMillis) -> Change {
        self.settle(AlertId::of(code, &about.to_string()), at, ClosedBy::Round(number), |alert| {
            alert.before(number);
        })
    }

    /// A verified round holds the service's slice: whatever rounds up to it told of the service is mended.
    pub fn service_held(&mut self, service: &ServiceName, number: u64, at: UnixMillis) {
        let about = About::Service(service.clone());
        for code in Code::ALL {
            self.mended_by_round(*code, &about, number, at);
        }
        self.mended(Code::Cover01, &about, at);
    }

    /// Somebody knows of it. An event is over with that.
    ///
    /// # Errors
    /// When that opening is not open.
    pub fn acknowledge(
        &mut self,
        reference: AlertRef,
        by: MemberName,
        at: UnixMillis,
    ) -> Result<&Alert, NotOpen> {
        let event = |alert: &Alert| matches!(alert.code.closing(), Closing::Quiet(_));
        match self.open.get_mut(&reference.id).filter(|alert| alert.since == reference.since) {
            Some(alert) => alert.acknowledged = Some(Acknowledged { by, at }),
            None => return Err(NotOpen { reference }),
        }
        self.settle(reference.id, at, ClosedBy::Acknowledgement, |alert| alert.seen &= !event(alert));
        let closed = self.history.iter().rev().find(|alert| alert.reference() == reference);
        self.open.get(&reference.id).or(closed).ok_or(NotOpen { reference })
    }

    /// Closes the events that have been quiet for long enough; true if there was one.
    pub fn tick(&mut self, now: UnixMillis) -> bool {
        let over = |alert: &&Alert| match alert.code.closing() {
            Closing::Quiet(limit) => {
                let quiet = u128::try_from(now.0.saturating_sub(alert.last.0)).unwrap_or(0);
                alert.seen && quiet >= limit.as_millis()
            }
            Closing::Mended => false,
        };
        let over: Vec<AlertId> = self.open.values().filter(over).map(Alert::id).collect();
        for id in &over {
            self.settle(*id, now, ClosedBy::Quiet, |alert| alert.seen = false);
        }
        !over.is_empty()
    }

    /// Closes what is about services that are in the roster no more; true if there was one.
    pub fn keep_services(&mut self, roster: &BTreeSet<ServiceName>, at: UnixMillis) -> bool {
        self.close_about(|about| about.service().is_some_and(|service| !roster.contains(service)), at)
    }

    /// Closes what is about these rounds; true if there was one.
    pub fn drop_rounds(&mut self, swept: &BTreeSet<u64>, at: UnixMillis) -> bool {
        self.close_about(|about| matches!(about, About::Round(number) if swept.contains(number)), at)
    }

    fn close_about(&mut self, gone: impl Fn(&About) -> bool, at: UnixMillis) -> bool {
        let gone = self.open.values().filter(|alert| gone(&alert.about));
        let gone: Vec<AlertId> = gone.map(Alert::id).collect();
        for id in &gone {
            self.settle(*id, at, ClosedBy::Gone, |alert| (alert.seen, alert.round) = (false, None));
        }
        !gone.is_empty()
    }

    /// Changes an open alert, and closes it if nothing holds it open then.
    fn settle(
        &mut self,
        id: AlertId,
        at: UnixMillis,
        by: ClosedBy,
        change: impl FnOnce(&mut Alert),
    ) -> Change {
        let Some(alert) = self.open.get_mut(&id) else { return Change::Nothing };
        let before = (alert.seen, alert.round);
        change(alert);
        let after = (alert.seen, alert.round);
        if after != (false, None) {
            return if before == after { Change::Nothing } else { Change::Changed };
        }
        if let Some(mut alert) = self.open.remove(&id) {
            (alert.closed, alert.closed_by) = (Some(at), Some(by));
            self.remember(alert);
        }
        Change::Closed
    }

    fn remember(&mut self, alert: Alert) {
        let id = alert.id();
        self.history.push_back(alert);
        if self.history.iter().filter(|old| old.id() == id).count() > MAX_OPENINGS
            && let Some(oldest) = self.history.iter().position(|old| old.id() == id)
        {
            self.history.remove(oldest);
        }
        while self.history.len() > MAX_HISTORY {
            self.history.pop_front();
        }
    }

    /// Room for one more: a lesser alert gives way to a worse one, the one that has been open longest first.
    fn has_place(&mut self, code: Code) -> bool {
        if self.open.len() < MAX_OPEN {
            return true;
        }
        let lesser = self.open.values().filter(|alert| alert.code.severity() < code.severity());
        let Some(least) = lesser.min_by_key(|alert| (alert.code.severity(), alert.since)) else {
            return false;
        };
        let id = least.id();
        self.open.remove(&id);
        self.passed_over = self.passed_over.saturating_add(1);
        true
    }

    fn known_key(&self, code: Code, about: About) -> About {
        let About::Key(key) = &about else { return about };
        let is_key = |alert: &&Alert| alert.code == code && matches!(alert.about, About::Key(_));
        let same = |other: &KeyId| other.short() == key.short();
        let mut known = self.open.values().filter(is_key);
        let told = known.clone().any(|alert| matches!(&alert.about, About::Key(other) if same(other)));
        if told || known.by_ref().count() < MAX_KEYS { about } else { About::Part(Part::OtherKeys) }
    }
}

impl Alert {
    fn again(&mut self, cause: String, basis: Basis, times: u64, at: UnixMillis) -> Change {
        match basis {
            // It is still so: nothing new.
            Basis::Seen if self.seen && self.code.closing() == Closing::Mended => return Change::Nothing,
            Basis::Seen => self.seen = true,
            Basis::Round(number) if self.round.is_some_and(|told| told >= number) => return Change::Nothing,
            Basis::Round(number) => self.round = Some(number),
        }
        self.cause = cause;
        self.count = self.count.saturating_add(times);
        self.last = self.last.max(at);
        Change::Changed
    }

    fn before(&mut self, number: u64) {
        if self.round.is_some_and(|told| told <= number) {
            self.round = None;
        }
    }
}

/// `cause` on one line that is not too long.
pub(super) fn shown(cause: &str) -> String {
    let mut line = String::new();
    for char in cause.chars().filter(|char| !char.is_control()) {
        if line.len() + char.len_utf8() > MAX_CAUSE_LEN - '…'.len_utf8() {
            line.push('…');
            break;
        }
        line.push(char);
    }
    line
}
