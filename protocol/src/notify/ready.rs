//! Whether the fleet could be recovered as it promises: the condition of an external dead-man signal, which must fall silent when
//! backups stop.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::alert::{About, Book, Code, Rounds};
use crate::ids::ServiceName;
use crate::time::UnixMillis;

/// Why it could not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// There is nothing to recover.
    #[error("the roster has no service")]
    NoService,
    /// Nobody said how old a backup may be.
    #[error("the setting interval is no duration: nobody can tell how old a backup may be")]
    NoPromise,
    /// A service without a verified slice.
    #[error("no verified round holds a slice of {service} yet")]
    Uncovered {
        /// The service.
        service: ServiceName,
    },
    /// A service whose newest verified slice is too old.
    #[error(
        "the newest verified slice of {service} is that of round {round}, and older than the promised interval"
    )]
    TooOld {
        /// The service.
        service: ServiceName,
        /// The round.
        round: u64,
    },
    /// The last drill failed: until another one passes, nobody knows.
    #[error("the drill of round {round} failed")]
    DrillFailed {
        /// The round.
        round: u64,
    },
    /// What is stored is at risk.
    #[error("{code} of {about} is open")]
    Damaged {
        /// What.
        code: Code,
        /// Of whom.
        about: About,
    },
}

/// The newest verified round, if every service of the roster has a verified slice that is younger than `promised`, nothing that
/// is stored is known to be damaged, and the last drill did not fail.
///
/// # Errors
/// The first reason why not.
pub fn ready(
    rounds: &Rounds,
    book: &Book,
    roster: &BTreeSet<ServiceName>,
    promised: Option<Duration>,
    failed_drill: Option<u64>,
    now: UnixMillis,
) -> Result<u64, Unready> {
    let promised = promised.ok_or(Unready::NoPromise)?;
    if roster.is_empty() {
        return Err(Unready::NoService);
    }
    for service in roster {
        let service = service.clone();
        let Some((round, at)) = rounds.newest_verified(&service) else {
            return Err(Unready::Uncovered { service });
        };
        let age = u128::try_from(now.0.saturating_sub(at.0)).unwrap_or(0);
        if age > promised.as_millis() {
            return Err(Unready::TooOld { service, round });
        }
    }
    if let Some(round) = failed_drill {
        return Err(Unready::DrillFailed { round });
    }
    let damage = book.open().find(|alert| is_damage(alert.code));
    match damage {
        Some(alert) => Err(Unready::Damaged { code: alert.code, about: alert.about.clone() }),
        None => Ok(rounds.proven()),
    }
}

fn is_damage(code: Code) -> bool {
    [Code::Verify01, Code::Verify02, Code::Share08].contains(&code)
}
