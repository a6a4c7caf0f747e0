//! What rounds tell, read off the log and the manifests: the same rounds give the same alerts, wherever they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::{About, Book, Code, Finding, Part};
use crate::document::{Absentee, Manifest};
use crate::ids::ServiceName;
use crate::log::{Outcome, RoundPhase, RoundState, State};
use crate::time::UnixMillis;

/// Rounds that are looked back at, the newest. What is older tells no alerts.
pub const MAX_TOLD: usize = 100;
/// Milliseconds that the clocks of two coordinators may differ.
const CLOCKS_DIFFER: i64 = 10 * 60_000;
/// Services that a cause names.
const NAMED: usize = 5;

const FLEET: About = About::Part(Part::Fleet);

/// How far a round has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    /// What it lacks; it is not verified yet.
    Committed,
    /// All.
    Whole,
}

/// A service's newest verified round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Newest {
    pub(super) round: u64,
    at: UnixMillis,
}

/// What is read of a round.
#[derive(Debug, Clone, Copy)]
pub enum Account<'a> {
    /// Its manifest, or the story of a round without a commit.
    Read(&'a Manifest),
    /// There is none: the share did not take the story.
    None,
}

/// What was told of rounds so far. Grows with the roster and no further.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rounds {
    told: BTreeMap<u64, Told>,
    /// Newest verified round of each service.
    pub(super) verified: BTreeMap<ServiceName, Newest>,
    /// Services that a round lacked, with its number, until a later one that holds them is verified.
    lacking: BTreeMap<ServiceName, u64>,
    /// Services of rounds whose cut was broken, with the newest of these, until a later round holds them that has a whole cut
    /// or was to have none.
    #[serde(default)]
    uncut: BTreeMap<ServiceName, u64>,
    /// The newest verified round.
    #[serde(default)]
    proven: u64,
}

impl Rounds {
    /// The rounds of which something is to be told, oldest first: [`Rounds::tell`] wants them in this order. Swept ones tell
    /// nothing any more: their manifests are gone, as they should be.
    #[must_use]
    pub fn untold<'a>(&self, state: &'a State) -> Vec<&'a RoundState> {
        let oldest = state.last_round.saturating_sub(MAX_TOLD as u64);
        let wanted = |round: &&RoundState| {
            let told = self.told.get(&round.open.number);
            round.open.number > oldest
                && !round.swept
                && match &round.phase {
                    RoundPhase::Open => false,
                    RoundPhase::Committed { verified: None, .. } => told.is_none(),
                    RoundPhase::Committed { verified: Some(_), .. } | RoundPhase::Ended(_) => {
                        told != Some(&Told::Whole)
                    }
                }
        };
        let mut rounds: Vec<_> = state.rounds.values().filter(wanted).collect();
        rounds.sort_by_key(|round| round.open.number);
        rounds
    }

    /// Tells what a round that is over says.
    pub fn tell(&mut self, book: &mut Book, round: &RoundState, account: Account<'_>) {
        let number = round.open.number;
        let told = match &round.phase {
            RoundPhase::Open => return,
            RoundPhase::Ended(end) => {
                if end.outcome == Outcome::Failed {
                    self.lacks(book, number, end.outcome, account, &end.reason, end.at);
                }
                Told::Whole
            }
            RoundPhase::Committed { commit, verified, .. } => {
                if !self.told.contains_key(&number) {
                    self.lacks(book, number, commit.outcome, account, "", commit.at);
                    self.cuts(book, number, account, commit.at);
                }
                match verified {
                    None => Told::Committed,
                    Some(verified) => {
                        self.proves(book, number, account, verified.at);
                        Told::Whole
                    }
                }
            }
        };
        self.told.insert(number, told);
        while self.told.len() > MAX_TOLD {
            self.told.pop_first();
        }
    }

    /// Closes what is about rounds that were swept: there is nothing left that could be damaged. True if anything changed.
    pub fn sweep(book: &mut Book, state: &State, now: UnixMillis) -> bool {
        let swept = state.rounds.values().filter(|round| round.swept).map(|round| round.open.number);
        book.drop_rounds(&swept.collect(), now)
    }

    /// Judges the roster as a whole: services of which no verified round holds a slice (COVER-01), or none that is younger
    /// than `promised` (ROUND-04). Closes what is about services that are in the roster no more. True if anything changed.
    pub fn judge(
        &mut self,
        book: &mut Book,
        roster: &BTreeSet<ServiceName>,
        promised: Option<Duration>,
        now: UnixMillis,
    ) -> bool {
        let before = book.clone();
        book.keep_services(roster, now);
        self.verified.retain(|service, _| roster.contains(service));
        self.lacking.retain(|service, _| roster.contains(service));
        self.uncut.retain(|service, _| roster.contains(service));
        for service in roster {
            let about = About::Service(service.clone());
            let Some(newest) = self.verified.get(service) else {
                let cause = "no verified round holds a slice of it yet";
                book.raise(Finding::seen(Code::Cover01, about, cause), now);
                continue;
            };
            let age = u128::try_from(now.0.saturating_sub(newest.at.0)).unwrap_or(0);
            // A clock was wrong then, or is now. An age that nobody knows is no age that was promised.
            if newest.at.0.saturating_sub(now.0) > CLOCKS_DIFFER {
                let cause = format!(
                    "its newest verified slice, of round {}, was made in the future: a clock is or was wrong",
                    newest.round
                );
                book.raise(Finding::seen(Code::Round04, about, cause), now);
            } else if promised.is_some_and(|most| age > most.as_millis()) {
                let cause = format!("its newest verified slice is that of round {}", newest.round);
                book.raise(Finding::seen(Code::Round04, about, cause), now);
            } else {
                book.mended(Code::Round04, &about, now);
            }
        }
        *book != before
    }

    /// The newest verified round that holds a slice of this service, and when it was verified.
    #[must_use]
    pub fn newest_verified(&self, service: &ServiceName) -> Option<(u64, UnixMillis)> {
        self.verified.get(service).map(|newest| (newest.round, newest.at))
    }

    /// The newest verified round; 0: none.
    #[must_use]
    pub fn proven(&self) -> u64 {
        self.proven
    }

    fn lacks(
        &mut self,
        book: &mut Book,
        number: u64,
        outcome: Outcome,
        account: Account<'_>,
        reason: &str,
        at: UnixMillis,
    ) {
        let absent: Vec<&Absentee> = match account {
            Account::Read(manifest) => manifest.absent.iter().filter(|a| a.excuse.is_none()).collect(),
            Account::None => Vec::new(),
        };
        for absentee in &absent {
            self.lacking.insert(absentee.service.clone(), number);
            // Of a service that was still at work there is nothing to say but that the round lacks it.
            if absentee.code != Code::Round01 {
                let about = About::Service(absentee.service.clone());
                let cause = format!("round {number}: {}", absentee.reason);
                book.raise(Finding::of_round(number, absentee.code, about, cause), at);
            }
        }
        let cause = match outcome {
            Outcome::Partial => format!("round {number} is partial: it lacks {}", names(&absent)),
            Outcome::Failed if absent.is_empty() => format!("round {number} failed: {reason}"),
            Outcome::Failed => format!("round {number} failed ({reason}): it lacks {}", names(&absent)),
            Outcome::Complete | Outcome::Cancelled | Outcome::Skipped => return,
        };
        book.raise(Finding::of_round(number, Code::Round01, FLEET, cause), at);
    }

    fn cuts(&mut self, book: &mut Book, number: u64, account: Account<'_>, at: UnixMillis) {
        let Account::Read(manifest) = account else { return };
        let services = manifest.slices.iter().map(|slice| &slice.service);
        if let Some(reason) = manifest.cut.as_ref().and_then(|cut| cut.broken.as_ref()) {
            for service in services {
                let newest = self.uncut.entry(service.clone()).or_insert(number);
                *newest = number.max(*newest);
            }
            let cause = format!("round {number}: {reason}");
            book.raise(Finding::of_round(number, Code::Round05, FLEET, cause), at);
            return;
        }
        for service in services {
            if self.uncut.get(service).is_some_and(|broken| *broken <= number) {
                self.uncut.remove(service);
            }
        }
        if self.uncut.is_empty() {
            book.mended_by_round(Code::Round05, &FLEET, number, at);
        }
    }

    fn proves(&mut self, book: &mut Book, number: u64, account: Account<'_>, at: UnixMillis) {
        book.mended(Code::Verify01, &About::Round(number), at);
        let Account::Read(manifest) = account else { return };
        for slice in &manifest.slices {
            let service = &slice.service;
            let newest = Newest { round: number, at };
            let known = self.verified.entry(service.clone()).or_insert(newest);
            if known.round < number {
                *known = newest;
            }
            if self.lacking.get(service).is_some_and(|lacked| *lacked <= number) {
                self.lacking.remove(service);
            }
            book.service_held(service, number, at);
        }
        // Rounds are verified in any order: what they lacked may be complete only with one that is not the newest.
        self.proven = self.proven.max(number);
        if self.lacking.is_empty() {
            book.mended_by_round(Code::Round01, &FLEET, self.proven, at);
        }
    }
}

fn names(absent: &[&Absentee]) -> String {
    let mut names: Vec<_> = absent.iter().take(NAMED).map(|a| a.service.to_string()).collect();
    if absent.len() > NAMED {
        names.push(format!("{} more", absent.len() - NAMED));
    }
    names.join(", ")
}
