//! One service's place in a round.

use crate::alert::Code;
use crate::document::{Absentee, Excuse, MAX_TRIES, ManifestSlice, Timing, Try};
use crate::ids::{ObjectId, ServiceName};
use crate::message::{Stage, cut_reason};
use crate::retry::Retry;
use crate::round::event::Failure;
use crate::service_policy::{Expected, ServicePolicy};
use crate::time::Time;
use crate::units::format_duration;

/// How far a service is in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberPhase {
    /// Its tier has not begun.
    Queued,
    /// Asked, no hello yet.
    Waiting,
    /// Its agent has said hello and works.
    Working,
    /// It is quiesced, and held for the cut.
    Holding,
    /// Its receipt is being checked.
    Checking {
        /// The receipt.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// The attempt that it is for.
        attempt: u32,
    },
    /// The last attempt failed; it is asked again later.
    BackingOff {
        /// Why it failed.
        failure: Failure,
    },
    /// Its slice counts.
    Stored(Box<ManifestSlice>),
    /// It gives no slice in this round.
    Absent(Failure),
}

impl MemberPhase {
    /// Whether nothing more is expected of the service.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Stored(_) | Self::Absent(_) => true,
            Self::Queued
            | Self::Waiting
            | Self::Working
            | Self::Holding
            | Self::Checking { .. }
            | Self::BackingOff { .. } => false,
        }
    }

    /// Its slice, if it counts.
    #[must_use]
    pub fn slice(&self) -> Option<&ManifestSlice> {
        match self {
            Self::Stored(slice) => Some(slice),
            Self::Queued
            | Self::Waiting
            | Self::Working
            | Self::Holding
            | Self::Checking { .. }
            | Self::BackingOff { .. }
            | Self::Absent(_) => None,
        }
    }

    /// Why there is no slice, or none yet.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::BackingOff { failure } | Self::Absent(failure) => Some(failure),
            Self::Queued
            | Self::Waiting
            | Self::Working
            | Self::Holding
            | Self::Checking { .. }
            | Self::Stored(_) => None,
        }
    }

    /// The word for screens and JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Working => "capturing",
            Self::Holding => "holding",
            Self::Checking { .. } => "checking",
            Self::BackingOff { .. } => "retrying",
            Self::Stored(_) => "stored",
            Self::Absent(_) => "absent",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) policy: ServicePolicy,
    pub(super) phase: MemberPhase,
    /// The attempt that is made or wanted, from 1.
    pub(super) attempt: u32,
    /// When its agent was last heard of in this round.
    pub(super) seen: Time,
    /// What its agent last said to be at, since its last hello.
    pub(super) at: Option<Stage>,
    /// Whether its agent said hello, or more, in this round.
    pub(super) present: bool,
    /// Whether it is asked for and has not been through its first attempt.
    pub(super) fresh: bool,
    /// Whether its own deadline has passed: no further attempt.
    pub(super) expired: bool,
    /// How often the check of the current receipt was repeated.
    pub(super) rechecks: u32,
    /// The last receipt that was refused, and why: a repeated notice of it is no new attempt.
    pub(super) refused: Option<(ObjectId, String)>,
    /// When its first hello came, when it last said that it holds, and its last notice.
    pub(super) greeted: Option<Time>,
    pub(super) quiesced: Option<Time>,
    pub(super) noticed: Option<Time>,
    /// What failed so far, oldest first.
    pub(super) tries: Vec<Try>,
}

impl Member {
    pub(super) fn new(policy: ServicePolicy, now: Time) -> Self {
        Self {
            policy,
            phase: MemberPhase::Waiting,
            attempt: 1,
            seen: now,
            at: None,
            present: false,
            fresh: false,
            expired: false,
            rechecks: 0,
            refused: None,
            greeted: None,
            quiesced: None,
            noticed: None,
            tries: Vec::new(),
        }
    }

    /// Why its absence would not make the round partial.
    pub(super) fn excuse(&self) -> Option<Excuse> {
        match self.policy.expected {
            Expected::WhilePresent if !self.present => Some(Excuse::NotPresent),
            Expected::WhilePresent | Expected::Always => (!self.policy.required).then_some(Excuse::Optional),
        }
    }

    /// Whether the cut cannot do without it.
    pub(super) fn is_needed(&self) -> bool {
        self.excuse().is_none()
    }

    /// What it is at, in a word.
    pub(super) fn word(&self) -> &'static str {
        if let (MemberPhase::Working, Some(stage)) = (&self.phase, self.at) {
            return stage.word();
        }
        self.phase.word()
    }

    /// What it is at, since when it is silent, and what failed before: what a deadline says of it.
    pub(super) fn stage(&self, now: Time) -> String {
        let mut text = format!("{}, attempt {}", self.word(), self.attempt);
        if self.present && !self.phase.is_settled() {
            let silent = format_duration(now.since(self.seen));
            text.push_str(&format!(", last heard of {silent} before"));
        }
        if let Some(last) = self.tries.last() {
            text.push_str(&format!("; attempt {} failed: {} {}", last.attempt, last.code, last.reason));
        }
        text
    }

    /// Whether its attempt of this number may be made, where `most` are allowed to all.
    pub(super) fn allows(&self, attempt: u32, most: bool) -> bool {
        self.policy.attempts.map_or(most, |own| attempt <= own)
    }

    /// The attempt that its agent says it is at, if it may be: an agent may be ahead by a former leader's order, and must not
    /// use up attempts that nobody asked for.
    pub(super) fn claimed(&self, attempt: u32, retry: Retry) -> u32 {
        if self.allows(attempt, retry.allows(attempt)) { attempt } else { self.attempt }
    }

    /// Whether its agent may be at this attempt, or be late with it: it was ordered, or a former leader may have ordered it.
    pub(super) fn may_be_at(&self, attempt: u32, retry: Retry) -> bool {
        attempt <= self.attempt || self.claimed(attempt, retry) == attempt
    }

    /// Notes that the current attempt came to nothing.
    pub(super) fn note(&mut self, failure: &Failure, began: Time, now: Time) {
        if self.tries.len() == MAX_TRIES {
            self.tries.remove(0);
        }
        self.tries.push(Try {
            attempt: self.attempt,
            after_millis: millis(began, now),
            code: failure.code,
            reason: cut_reason(&failure.reason),
        });
    }

    pub(super) fn absentee(&self, service: &ServiceName, code: Code, reason: String) -> Absentee {
        Absentee {
            service: service.clone(),
            attempts: self.attempt,
            code,
            reason,
            excuse: self.excuse(),
            tries: self.tries.clone(),
        }
    }

    pub(super) fn view<'a>(&'a self, service: &'a ServiceName) -> MemberView<'a> {
        MemberView {
            service,
            phase: &self.phase,
            attempt: self.attempt,
            policy: &self.policy,
            tries: &self.tries,
        }
    }

    pub(super) fn timing(&self, began: Time, now: Time) -> Timing {
        Timing {
            greeted_millis: self.greeted.map_or(0, |at| millis(began, at)),
            quiesced_millis: self.quiesced.map(|at| millis(began, at)),
            noticed_millis: self.noticed.map_or(0, |at| millis(began, at)),
            checked_millis: millis(began, now),
        }
    }
}

fn millis(from: Time, to: Time) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// A service's place in a round, for screens.
#[derive(Debug, Clone, Copy)]
pub struct MemberView<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// How far it is.
    pub phase: &'a MemberPhase,
    /// The attempt, from 1.
    pub attempt: u32,
    /// What is expected of it.
    pub policy: &'a ServicePolicy,
    /// What failed so far, oldest first.
    pub tries: &'a [Try],
}
