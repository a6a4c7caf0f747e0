//! The rounds in the log, newest first: `muster rounds`.

use futures::{StreamExt, stream};
use muster_protocol::log::{Outcome, RoundPhase, RoundState};
use muster_share::verify::hurt;
use schemars::JsonSchema;
use serde::Serialize;

use super::manifest::ManifestError;
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
    /// Services whose slices it holds; null: it is not committed, was pruned, or its manifest was not read, as a page of very many
    /// or very large ones tells only of the newest.
    pub stored: Option<u64>,
    /// Services that it was to hold; null: as `stored`.
    pub expected: Option<u64>,
    /// Services whose slices rest on objects that were found damaged.
    pub damaged: Vec<String>,
    /// What is wrong with its manifest (VERIFY-02).
    pub fault: Option<String>,
}

impl RoundLine {
    /// Whether something that it needs is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.fault.is_some() || !self.damaged.is_empty()
    }
}

/// Most manifests that are read for one page, of its newest rounds.
const MOST_READ: usize = 100;
/// Most bytes of manifests that are read for one page: those of a large fleet are long.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// Manifests that are read at once.
const AT_ONCE: usize = 8;

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
    /// The page, with what the manifests of its newest rounds say.
    ///
    /// # Errors
    /// When a manifest cannot be read now; one that is damaged is told.
    pub async fn read(
        shown: &Shown<'_>,
        rounds: &[&RoundState],
        next: Option<u64>,
    ) -> Result<Self, ManifestError> {
        let mut lines: Vec<_> = rounds.iter().map(|round| line(round)).collect();
        let mut bytes = 0;
        let wanted = rounds.iter().zip(&mut lines).filter(|(round, _)| round.is_recoverable());
        let wanted = wanted.take(MOST_READ).take_while(|(round, _)| {
            bytes += round.commit().map_or(0, |commit| commit.manifest_size);
            bytes <= MOST_BYTES
        });
        // Each future of one type: a borrowing closure makes the whole no longer `Send`.
        let reads: Vec<_> = wanted.map(|(round, line)| account(*shown, round, line)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
        while let Some(read) = reads.next().await {
            read?;
        }
        drop(reads);
        Ok(Self {
            schema: "muster.rounds/1",
            fleet: shown.fleet(),
            fleet_id: shown.state().fleet.to_string(),
            share: shown.share.to_owned(),
            head: shown.head(),
            rounds: lines,
            next,
        })
    }
}

/// What the manifest of a round says of its services.
async fn account(shown: Shown<'_>, round: &RoundState, line: &mut RoundLine) -> Result<(), ManifestError> {
    let manifest = match shown.manifest(round).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Ok(()),
        // What is damaged hides nothing else.
        Err(error @ ManifestError::Damaged { .. }) => {
            line.fault = Some(error.to_string());
            return Ok(());
        }
        Err(error @ ManifestError::Store { .. }) => return Err(error),
    };
    line.stored = Some(manifest.slices.len() as u64);
    line.expected = Some((manifest.slices.len() + manifest.absent.len()) as u64);
    let number = round.open.number;
    let hurt = hurt(shown.store(), shown.state(), round, &manifest).await;
    let hurt = hurt.map_err(|source| ManifestError::Store { number, source })?;
    line.damaged = hurt.keys().map(ToString::to_string).collect();
    Ok(())
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
        stored: None,
        expected: None,
        damaged: Vec::new(),
        fault: None,
    }
}
