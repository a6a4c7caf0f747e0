//! A round as the commands tell it in JSON (`muster.round/1`), as far as the demo needs it.

use muster_protocol::units::total;
use serde::Deserialize;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;

/// A round that is over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Round {
    number: u64,
    state: String,
    outcome: Option<String>,
    services: Vec<Service>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Service {
    service: String,
    state: String,
    reason: Option<String>,
    source_bytes: u64,
    added_bytes: u64,
    entries: u64,
    gaps: u64,
}

impl Round {
    /// Reads it, and holds it to what it must be.
    ///
    /// # Errors
    /// When it is another one, or not complete and verified with `services` slices.
    pub(super) fn proven(json: Value, number: u64, services: usize) -> Result<Self, Failure> {
        let failed = |what: String| Failure::new(Exit::Failed, what);
        let round: Self = serde_json::from_value(json).map_err(|error| {
            failed("the round's JSON makes no sense".to_owned()).because(error.to_string())
        })?;
        if round.number != number {
            return Err(failed(format!("round {number} was expected, and round {} came", round.number)));
        }
        if (round.state.as_str(), round.outcome.as_deref()) != ("verified", Some("complete")) {
            let outcome = round.outcome.as_deref().unwrap_or("no outcome");
            let mut failure =
                failed(format!("round {number} is {}, {outcome}: not complete and verified", round.state));
            for service in &round.services {
                if let Some(reason) = &service.reason {
                    failure = failure.because(format!("{}: {reason}", service.service));
                }
            }
            return Err(failure);
        }
        if round.stored() != services {
            return Err(failed(format!("round {number} has {} slices, not {services}", round.stored())));
        }
        Ok(round)
    }

    /// Slices.
    pub(super) fn stored(&self) -> usize {
        self.services.iter().filter(|service| service.state == "stored").count()
    }

    /// Bytes of the sources.
    pub(super) fn source_bytes(&self) -> u64 {
        total(self.services.iter().map(|service| service.source_bytes))
    }

    /// Bytes that came to the share.
    pub(super) fn added_bytes(&self) -> u64 {
        total(self.services.iter().map(|service| service.added_bytes))
    }

    /// Files, folders, links, dumps.
    pub(super) fn entries(&self) -> u64 {
        total(self.services.iter().map(|service| service.entries))
    }

    /// Entries that could not be read.
    pub(super) fn gaps(&self) -> u64 {
        total(self.services.iter().map(|service| service.gaps))
    }
}

#[cfg(test)]
mod tests {
    use super::Round;
    use serde_json::json;

    fn round(state: &str, outcome: &str) -> serde_json::Value {
        let service = |name: &str, state: &str| {
            json!({"service": name, "state": state, "reason": "why", "attempts": 1, "source_bytes": 10, "stored_bytes": 5,
                   "added_bytes": 3, "entries": 2, "gaps": 1, "receipt": null})
        };
        json!({"schema": "muster.round/1", "number": 2, "state": state, "outcome": outcome, "head": {},
               "services": [service("a", "stored"), service("b", "stored")]})
    }

    #[test]
    fn only_the_expected_complete_and_verified_round_is_proven() {
        let good = Round::proven(round("verified", "complete"), 2, 2).expect("proven");
        assert_eq!((good.source_bytes(), good.added_bytes(), good.entries(), good.gaps()), (20, 6, 4, 2));
        assert!(Round::proven(round("verified", "complete"), 3, 2).is_err());
        assert!(Round::proven(round("verified", "complete"), 2, 3).is_err());
        let partial = Round::proven(round("verified", "partial"), 2, 2).expect_err("partial");
        assert!(partial.to_string().contains("a: why"), "{partial}");
        assert!(Round::proven(round("committed", "complete"), 2, 2).is_err());
        assert!(Round::proven(json!({"number": 2}), 2, 2).is_err());
    }
}
