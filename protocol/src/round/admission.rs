//! Whether a request becomes a round now.

use crate::ids::RoundId;
use crate::log::{MAX_OPEN_ROUNDS, RoundPhase, Scope, State};

/// What happens to a request whose services are busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It waits.
    #[default]
    Queue,
    /// It is skipped.
    Skip,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Open it, with this number.
    Open {
        /// The round's number.
        number: u64,
    },
    /// The same request is a round already.
    Known {
        /// Its number.
        number: u64,
        /// Whether it has ended.
        ended: bool,
    },
    /// It waits.
    Queue {
        /// Why.
        reason: String,
    },
    /// It is skipped.
    Skip {
        /// Why.
        reason: String,
    },
    /// It can never be a round.
    Refuse {
        /// Why.
        reason: String,
    },
}

/// What becomes of a request for `round` over `scope`, given what the log says.
#[must_use]
pub fn admit(state: &State, round: &RoundId, scope: &Scope, overlap: Overlap) -> Admission {
    if let Some(known) = state.rounds.get(round) {
        return Admission::Known { number: known.open.number, ended: known.phase != RoundPhase::Open };
    }
    if let Scope::Services(wanted) = scope
        && let Some(unknown) = wanted.iter().find(|service| state.agent(service).is_none())
    {
        let services = state.services();
        let known = services.iter().take(20).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let known = if services.len() > 20 { format!("{known}, …") } else { known };
        return Admission::Refuse {
            reason: format!("service {unknown} is not in the roster (known: {known})"),
        };
    }
    if state.agents().next().is_none() {
        return Admission::Refuse { reason: "the roster has no services".into() };
    }
    if state.recipients().is_empty() {
        return Admission::Refuse { reason: "KEY-01: the fleet has no recovery key".into() };
    }
    let open = state.open_rounds();
    let busy = open.iter().find(|other| other.open.scope.overlaps(scope));
    let reason = match busy {
        Some(other) => format!("round {} has one of its services", other.open.number),
        None if open.len() >= MAX_OPEN_ROUNDS => format!("{MAX_OPEN_ROUNDS} rounds are open"),
        None => return Admission::Open { number: state.last_round + 1 },
    };
    match overlap {
        Overlap::Queue => Admission::Queue { reason },
        Overlap::Skip => Admission::Skip { reason },
    }
}
