//! ROUND as people write it, on command lines and in addresses: `latest`, a number, or a unique prefix of an id.

use std::fmt;
use std::str::FromStr;

use muster_protocol::ids::RoundId;
use muster_protocol::log::{RoundState, State};

/// Shortest prefix of an id that is looked up.
const SHORTEST_PREFIX: usize = 4;

/// What an operator calls a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundName {
    /// The newest that is committed and not swept.
    Latest,
    /// By number.
    Number(u64),
    /// By the beginning of its id, in lowercase hexadecimal.
    Prefix(String),
}

/// The text is no name of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundNameError;

impl std::error::Error for RoundNameError {}

impl fmt::Display for RoundNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write latest, a number, or at least {SHORTEST_PREFIX} characters of a round's id")
    }
}

impl FromStr for RoundName {
    type Err = RoundNameError;

    /// A text of up to nine digits is a number: ids are long, and their prefixes are shown with eight characters of which
    /// one is a letter nearly always. `id:` before it makes it a prefix.
    fn from_str(text: &str) -> Result<Self, RoundNameError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let explicit = text.strip_prefix("id:");
        if explicit.is_none()
            && text.len() <= 9
            && !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
        {
            return text.parse().map(Self::Number).map_err(|_| RoundNameError);
        }
        let prefix = explicit.unwrap_or(text).to_ascii_lowercase();
        let hex = prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if hex && (SHORTEST_PREFIX..=2 * RoundId::LEN).contains(&prefix.len()) {
            Ok(Self::Prefix(prefix))
        } else {
            Err(RoundNameError)
        }
    }
}

impl fmt::Display for RoundName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Prefix(prefix) => f.write_str(prefix),
        }
    }
}

/// Why a name is no round's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// `latest`, before the first commit.
    #[error("no round is committed yet")]
    NoneYet,
    /// No round has this number, or an id that begins so.
    #[error("there is no round {name} in the log")]
    Unknown {
        /// What was asked for.
        name: RoundName,
    },
    /// A prefix fits several.
    #[error("{prefix} fits several rounds, among them {one} and {two}")]
    Several {
        /// The prefix.
        prefix: String,
        /// One of them.
        one: RoundId,
        /// Another.
        two: RoundId,
    },
}

impl RoundName {
    /// The round of this name.
    ///
    /// # Errors
    /// When there is none, or a prefix fits several.
    pub fn find<'a>(&self, state: &'a State) -> Result<&'a RoundState, FindError> {
        let none = || FindError::Unknown { name: self.clone() };
        match self {
            Self::Latest => state.newest_recoverable().ok_or(FindError::NoneYet),
            Self::Number(number) => {
                state.rounds.values().find(|round| round.open.number == *number).ok_or_else(none)
            }
            Self::Prefix(prefix) => {
                let mut fitting =
                    state.rounds.iter().filter(|(id, _)| id.to_string().starts_with(prefix.as_str()));
                match (fitting.next(), fitting.next()) {
                    (None, _) => Err(none()),
                    (Some((_, round)), None) => Ok(round),
                    (Some((one, _)), Some((two, _))) => {
                        Err(FindError::Several { prefix: prefix.clone(), one: *one, two: *two })
                    }
                }
            }
        }
    }
}

impl RoundName {
    /// As [`RoundName::find`], of a round that is to be followed: `latest` is the newest open one, where any is.
    ///
    /// # Errors
    /// As [`RoundName::find`].
    pub fn find_to_follow<'a>(&self, state: &'a State) -> Result<&'a RoundState, FindError> {
        let open = match self {
            Self::Latest => state.open_rounds().last().copied(),
            Self::Number(_) | Self::Prefix(_) => None,
        };
        open.map_or_else(|| self.find(state), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::{FindError, RoundName};
    use muster_protocol::ids::{Nonce, ObjectId, RoundId};
    use muster_protocol::log::{Commit, Open, Outcome, Pin, RoundPhase, RoundState, Scope, State};
    use muster_protocol::time::UnixMillis;

    fn state(rounds: &[(u64, u8, u8, bool)]) -> State {
        let mut state = State::new(Pin::default());
        for (number, first, second, committed) in rounds {
            let mut id = [0; 16];
            (id[0], id[1], id[2]) = (*first, *second, u8::try_from(*number).expect("small"));
            let round = RoundId::from_bytes(id);
            let open = Open {
                epoch: 1,
                round,
                number: *number,
                scope: Scope::All,
                nonce: Nonce::from_bytes([0; 16]),
                trigger: String::new(),
                deadline_millis: 1,
                at: UnixMillis(0),
                cut: None,
            };
            let commit = Commit {
                epoch: 1,
                round,
                manifest: ObjectId::from_bytes([0; 32]),
                manifest_size: 1,
                outcome: Outcome::Complete,
                at: UnixMillis(0),
            };
            let phase = if *committed {
                RoundPhase::Committed { commit, position: 1, verified: None }
            } else {
                RoundPhase::Open
            };
            state.rounds.insert(
                round,
                RoundState { open, position: 0, resumed: Vec::new(), phase, hold: None, swept: false },
            );
        }
        state
    }

    #[test]
    fn the_three_forms_parse_and_nothing_else() {
        assert_eq!("latest".parse(), Ok(RoundName::Latest));
        assert_eq!("1207".parse(), Ok(RoundName::Number(1207)));
        assert_eq!("01ABcd".parse(), Ok(RoundName::Prefix("01abcd".to_owned())));
        assert_eq!("id:1207".parse(), Ok(RoundName::Prefix("1207".to_owned())));
        assert_eq!("1234567890".parse(), Ok(RoundName::Prefix("1234567890".to_owned())));
        for bad in ["", "Latest", "-1", "abc", "xyzw", "0x12", " 7", "id:", &"a".repeat(33)] {
            assert!(bad.parse::<RoundName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rounds_are_found_by_each_form() {
        let state = state(&[(1, 0xab, 0xcd, true), (2, 0xab, 0xcd, true), (3, 0xee, 0x01, false)]);
        let number = |name: &str| {
            name.parse::<RoundName>().expect("a name").find(&state).map(|round| round.open.number)
        };
        assert_eq!(number("latest").expect("found"), 2);
        assert_eq!(number("3").expect("found"), 3);
        assert_eq!(number("ee01").expect("found"), 3);
        assert_eq!(number("abcd02").expect("found"), 2);
        let error = number("abcd").expect_err("two fit");
        assert!(error.to_string().contains("several rounds") && matches!(error, FindError::Several { .. }));
        assert!(number("9").expect_err("none").to_string().contains("no round 9"));
        let empty = super::tests::state(&[(1, 0, 0, false)]);
        assert_eq!(RoundName::Latest.find(&empty).expect_err("none"), FindError::NoneYet);
    }
}
