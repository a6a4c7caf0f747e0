//! Which round is meant: `latest`, a number, or a unique prefix of an id.

use std::str::FromStr;

use muster_protocol::log::{RoundPhase, RoundState, State};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RoundSelector {
    /// The newest committed round that is not swept.
    #[default]
    Latest,
    /// A number, or the beginning of an id.
    Named(String),
}

impl FromStr for RoundSelector {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<Self, SelectError> {
        match text {
            "latest" => Ok(Self::Latest),
            _ if !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self::Named(text.to_owned()))
            }
            _ => Err(SelectError::Malformed { round: text.chars().take(80).collect() }),
        }
    }
}

/// Why no round, or not one, is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No such words.
    #[error("{round:?} names no round: give latest, a number, or the beginning of a round's id")]
    Malformed {
        /// What was given.
        round: String,
    },
    /// The share has no such round.
    #[error("the share has no round {round}")]
    Unknown {
        /// What was given.
        round: String,
    },
    /// The prefix fits several.
    #[error("{round} is the beginning of {count} rounds' ids: give more of it")]
    Ambiguous {
        /// What was given.
        round: String,
        /// How many.
        count: usize,
    },
    /// It was never committed.
    #[error("round {number} was not committed ({state}): there is nothing to read")]
    NotCommitted {
        /// Its number.
        number: u64,
        /// How it is instead.
        state: &'static str,
    },
    /// Its objects are deleted.
    #[error("round {number} was pruned: its objects are deleted")]
    Swept {
        /// Its number.
        number: u64,
    },
    /// There is none at all.
    #[error("the share has no committed round")]
    None,
}

impl RoundSelector {
    /// The round that is meant and can be read.
    ///
    /// # Errors
    /// See [`SelectError`].
    pub fn select<'a>(&self, state: &'a State) -> Result<&'a RoundState, SelectError> {
        let Self::Named(text) = self else { return state.newest_recoverable().ok_or(SelectError::None) };
        let number = text.parse().ok();
        let mut found: Vec<_> =
            state.rounds.values().filter(|round| Some(round.open.number) == number).collect();
        if found.is_empty() {
            found = state.rounds.values().filter(|r| r.open.round.to_string().starts_with(text)).collect();
        }
        let round = match found.as_slice() {
            [] => return Err(SelectError::Unknown { round: text.clone() }),
            [round] => *round,
            several => return Err(SelectError::Ambiguous { round: text.clone(), count: several.len() }),
        };
        let number = round.open.number;
        match round.phase {
            RoundPhase::Committed { .. } if round.swept => Err(SelectError::Swept { number }),
            RoundPhase::Committed { .. } => Ok(round),
            RoundPhase::Open | RoundPhase::Ended(_) => {
                Err(SelectError::NotCommitted { number, state: round.word() })
            }
        }
    }
}
