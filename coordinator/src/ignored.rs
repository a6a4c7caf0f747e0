//! Messages that are none of ours: counted by reason, never answered, told once a minute however many they are.
//!
//! Whoever may publish may send as many as it likes. So nothing here grows with them: the reasons and the parts are closed
//! lists, and of services and keys only so many are told singly until somebody looks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::envelope::EnvelopeError;
use muster_protocol::session::SessionError;
use muster_telemetry::metrics::{MESSAGES_IGNORED, REASON};

/// Most subjects that are told singly between two looks.
const MAX_SUBJECTS: usize = 64;

/// Why a message was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// No signed envelope of the kind that belongs on its subject.
    Noise,
    /// The signature is not that of the key that it names.
    Signature,
    /// Of another fleet.
    Fleet,
    /// Of another version of the protocol.
    Version,
    /// Signed by a key that may not say this of this service.
    Stranger,
    /// About another service than its subject's.
    Subject,
    /// Heard before.
    Replay,
    /// That an attempt failed which nobody ordered.
    Attempt,
    /// Sealed in a session that this leader does not have: what the end of a round, or a change of leaders, leaves on its way.
    Session,
    /// To another epoch: what a change of leaders leaves on its way.
    Epoch,
    /// A command whose signer may not command.
    Command,
    /// Asks for no answer where one is all that there is to it.
    Unanswerable,
}

impl Reason {
    const ALL: [Self; 12] = [
        Self::Noise,
        Self::Signature,
        Self::Fleet,
        Self::Version,
        Self::Stranger,
        Self::Subject,
        Self::Replay,
        Self::Attempt,
        Self::Session,
        Self::Epoch,
        Self::Command,
        Self::Unanswerable,
    ];

    /// The word for JSON and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Signature => "signature",
            Self::Fleet => "fleet",
            Self::Version => "version",
            Self::Stranger => "stranger",
            Self::Subject => "subject",
            Self::Replay => "replay",
            Self::Attempt => "attempt",
            Self::Session => "session",
            Self::Epoch => "epoch",
            Self::Command => "command",
            Self::Unanswerable => "unanswerable",
        }
    }

    /// The alert that it calls for; none: it happens where nobody means harm.
    fn code(self) -> Option<Code> {
        match self {
            Self::Noise
            | Self::Signature
            | Self::Fleet
            | Self::Stranger
            | Self::Subject
            | Self::Replay
            | Self::Attempt => Some(Code::Key03),
            Self::Version => Some(Code::Agent05),
            Self::Command => Some(Code::Sec01),
            Self::Session | Self::Epoch | Self::Unanswerable => None,
        }
    }

    /// The reason why an envelope was not opened.
    pub(crate) fn of(error: &EnvelopeError) -> Self {
        match error {
            EnvelopeError::TooLong { .. }
            | EnvelopeError::Framing
            | EnvelopeError::OtherType { .. }
            | EnvelopeError::Payload(_) => Self::Noise,
            EnvelopeError::OtherFleet { .. } => Self::Fleet,
            EnvelopeError::Signature { .. } => Self::Signature,
        }
    }

    /// The reason why a sealed message was not opened.
    pub(crate) fn of_sealed(error: &SessionError) -> Self {
        match error {
            SessionError::SmallOrder | SessionError::OtherType { .. } | SessionError::Payload(_) => {
                Self::Noise
            }
            SessionError::NotSealed => Self::Signature,
            SessionError::Replayed => Self::Replay,
        }
    }
}

/// The words of all reasons.
pub(crate) fn words() -> [&'static str; 12] {
    Reason::ALL.map(Reason::as_str)
}

#[derive(Debug)]
struct Pile {
    times: u64,
    newest: String,
}

#[derive(Debug, Default)]
struct Counts {
    total: BTreeMap<Reason, u64>,
    /// What the log was told of.
    logged: BTreeMap<Reason, u64>,
    /// What no alert was told of yet.
    piles: BTreeMap<(Reason, About), Pile>,
}

/// Messages that were ignored since this coordinator took the lead.
#[derive(Debug, Default)]
pub(crate) struct Ignored(Mutex<Counts>);

impl Ignored {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one.
    pub(crate) fn one(&self, reason: Reason, about: About, why: &dyn Display) {
        tracing::debug!(reason = reason.as_str(), %about, %why, "message ignored");
        MESSAGES_IGNORED.one(vec![(REASON, reason.as_str().to_owned())]);
        let mut counts = self.counts();
        let count = counts.total.entry(reason).or_default();
        *count = count.saturating_add(1);
        if reason.code().is_none() {
            return;
        }
        let full = counts.piles.len() >= MAX_SUBJECTS;
        let known = counts.piles.contains_key(&(reason, about.clone()));
        let about = if known || !full { about } else { About::Part(Part::Messages) };
        let pile =
            counts.piles.entry((reason, about)).or_insert_with(|| Pile { times: 0, newest: String::new() });
        pile.times = pile.times.saturating_add(1);
        if pile.newest.is_empty() {
            pile.newest = why.to_string();
        }
    }

    /// How many so far.
    pub(crate) fn count(&self) -> u64 {
        self.counts().total.values().copied().fold(0, u64::saturating_add)
    }

    /// How many so far, by reason; those that never happened are not named.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        self.counts().total.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect()
    }

    /// What alerts are to say of those since the last call.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let piles = std::mem::take(&mut self.counts().piles);
        let finding = |((reason, about), pile): ((Reason, About), Pile)| {
            let cause = format!("{} ({})", pile.newest, reason.as_str());
            Some(Finding { times: pile.times, ..Finding::seen(reason.code()?, about, cause) })
        };
        piles.into_iter().filter_map(finding).collect()
    }

    /// Says how many there were since the last call: one line for each reason, none where there was none.
    pub(crate) fn log(&self) {
        let mut counts = self.counts();
        for reason in Reason::ALL {
            let total = counts.total.get(&reason).copied().unwrap_or_default();
            let told = counts.logged.insert(reason, total).unwrap_or_default();
            if total > told {
                let code = reason.code().map_or("", Code::as_str);
                let (messages, reason) = (total - told, reason.as_str());
                tracing::warn!(code, messages, reason, "messages were ignored in the last minute");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ignored, MAX_SUBJECTS, Reason};
    use muster_protocol::alert::{About, Code, Part};
    use muster_protocol::ids::KeyId;

    #[test]
    fn a_flood_is_counted_by_reason_and_told_in_bounded_words() {
        let ignored = Ignored::default();
        for n in 0..1_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            ignored.one(Reason::Stranger, About::Key(KeyId::from_bytes(key)), &"not of the roster");
        }
        ignored.one(Reason::Epoch, About::Part(Part::Messages), &"late");
        assert_eq!(ignored.count(), 1_001);
        assert_eq!(ignored.by_reason().get("stranger"), Some(&1_000));
        let findings = ignored.findings();
        assert!(findings.len() <= MAX_SUBJECTS + 1, "{}", findings.len());
        assert_eq!(findings.iter().map(|finding| finding.times).sum::<u64>(), 1_000);
        assert!(findings.iter().all(|finding| finding.code == Code::Key03));
        assert_eq!(ignored.findings(), [], "told once");
    }
}
