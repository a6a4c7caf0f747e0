//! Which round is meant: `latest`, a number, or a unique prefix of an id.

use muster_protocol::log::{RoundPhase, RoundState, State};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RoundSelector {
    /// The newest committed round that is not swept.
    #[default]
    Latest,
    /// By number.
    Number(u64),
    /// By the beginning of its id, in lowercase hexadecimal.
    Prefix(String),
}

impl std::fmt::Display for RoundSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Prefix(prefix) => f.write_str(prefix),
        }
    }
}

/// Why no round, or not one, is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
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
        let found: Vec<_> = match self {
            Self::Latest => return state.newest_recoverable().ok_or(SelectError::None),
            Self::Number(number) => state.rounds.values().filter(|r| r.open.number == *number).collect(),
            Self::Prefix(prefix) => {
                state.rounds.values().filter(|r| r.open.round.to_string().starts_with(prefix)).collect()
            }
        };
        let round = match found.as_slice() {
            [] => return Err(SelectError::Unknown { round: self.to_string() }),
            [round] => *round,
            several => return Err(SelectError::Ambiguous { round: self.to_string(), count: several.len() }),
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
