//! The rounds in the log, newest first: `muster rounds`.

use muster_protocol::log::{Outcome, RoundPhase, RoundState};
use schemars::JsonSchema;
use serde::Serialize;

use super::{HeadView, Shown, rfc3339};

/// `{"schema":"muster.rounds/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoundsView {
    /// `muster.rounds/1`
    pub schema: &'static str,
    /// The fleet's name.
    pub fleet: String,
    /// Its id, in hexadecimal.
    pub fleet_id: String,
    /// The share's address, as whoever answers was given it.
    pub share: String,
    /// The head of the log that says so.
    pub head: HeadView,
    /// Newest first.
    pub rounds: Vec<RoundLine>,
    /// Where the next page begins: older rounds have a lower number. Null: there are none.
    pub next: Option<u64>,
}

/// One of `rounds[]`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoundLine {
    /// Its id.
    pub round: String,
    /// Its number.
    pub number: u64,
    /// `open`, `committed`, `verified`, `failed`, `cancelled`, `skipped`
    pub state: &'static str,
    /// `complete`, `partial`, `failed`, `cancelled`, `skipped`; null while it is open
    pub outcome: Option<&'static str>,
    /// What asked for it.
    pub trigger: String,
    /// When it was opened, by the coordinator's clock.
    pub opened: String,
    /// When it was committed; null: it was not.
    pub committed: Option<String>,
    /// When it was verified; null: it was not.
    pub verified: Option<String>,
    /// An operator keeps it, whatever the retention says.
    pub held: bool,
    /// Why.
    pub hold_reason: Option<String>,
    /// It was pruned: its objects are deleted, or about to be.
    pub swept: bool,
}

/// At most `limit` rounds with numbers below `before`, newest first, and where the next page begins. No limit: all of them.
#[must_use]
pub fn page<'a>(
    shown: &Shown<'a>,
    limit: Option<usize>,
    before: Option<u64>,
) -> (Vec<&'a RoundState>, Option<u64>) {
    let mut rounds = shown.state().rounds_by_number();
    rounds.reverse();
    rounds.retain(|round| before.is_none_or(|before| round.open.number < before));
    let more = limit.is_some_and(|limit| rounds.len() > limit);
    rounds.truncate(limit.unwrap_or(usize::MAX));
    let next = rounds.last().filter(|_| more).map(|round| round.open.number);
    (rounds, next)
}

impl RoundsView {
    /// The page as JSON shows it.
    #[must_use]
    pub fn of(shown: &Shown<'_>, rounds: &[&RoundState], next: Option<u64>) -> Self {
        Self {
            schema: "muster.rounds/1",
            fleet: shown.fleet(),
            fleet_id: shown.state().fleet.to_string(),
            share: shown.share.to_owned(),
            head: shown.head(),
            rounds: rounds.iter().map(|round| line(round)).collect(),
            next,
        }
    }
}

fn line(round: &RoundState) -> RoundLine {
    let (committed, verified) = match &round.phase {
        RoundPhase::Committed { commit, verified, .. } => {
            (Some(rfc3339(commit.at)), verified.as_ref().map(|verified| rfc3339(verified.at)))
        }
        RoundPhase::Open | RoundPhase::Ended(_) => (None, None),
    };
    RoundLine {
        round: round.open.round.to_string(),
        number: round.open.number,
        state: round.word(),
        outcome: round.outcome().map(Outcome::as_str),
        trigger: round.open.trigger.clone(),
        opened: rfc3339(round.open.at),
        committed,
        verified,
        held: round.hold.is_some(),
        hold_reason: round.hold.as_ref().and_then(|hold| hold.reason.clone()),
        swept: round.swept,
    }
}
