//! Which rounds hold which services: whether the whole roster could be recovered, and where what a round lacks is to be
//! found. A round of a few services says nothing about the others; only the roster does.

use std::time::Duration;

use muster_protocol::ids::ServiceName;
use muster_protocol::log::RoundState;
use muster_protocol::units::format_duration;
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::read_manifest;
use muster_share::verify::{Ledger, Trouble};

/// Services that a line names.
const NAMED: usize = 5;

/// How old the newest verified slice of a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) service: String,
    /// Some committed round holds it, verified or not.
    pub(crate) stored: bool,
    /// Age of the newest verified round that holds it.
    pub(crate) verified: Option<Duration>,
}

/// Why the fleet cannot be recovered as promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shortfall {
    /// Services of which no round holds a slice.
    pub(crate) never: Vec<String>,
    /// Services whose rounds were all found not whole, or not looked at yet.
    pub(crate) unverified: Vec<String>,
    /// Services whose newest verified round is older than promised.
    pub(crate) late: Vec<(String, Duration)>,
    /// Nobody is in the roster.
    pub(crate) nobody: bool,
}

impl Shortfall {
    /// Judges over all services of the roster.
    pub(crate) fn of(roster: &[Standing], promised: Option<Duration>) -> Self {
        let mut shortfall = Self { nobody: roster.is_empty(), ..Self::default() };
        for standing in roster {
            let service = standing.service.clone();
            match standing.verified {
                Some(age) if promised.is_some_and(|most| age > most) => shortfall.late.push((service, age)),
                Some(_) => {}
                None if standing.stored => shortfall.unverified.push(service),
                None => shortfall.never.push(service),
            }
        }
        shortfall
    }

    /// Nothing is short.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The reasons, for people.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.nobody {
            reasons.push("the roster has no service".to_owned());
        }
        if !self.never.is_empty() {
            reasons.push(format!("{} (COVER-01 no slice yet)", names(&self.never)));
        }
        if !self.unverified.is_empty() {
            reasons.push(format!("{} (in no verified round)", names(&self.unverified)));
        }
        for (service, age) in self.late.iter().take(NAMED) {
            reasons.push(format!("{service} (last verified {} ago)", format_duration(*age)));
        }
        if self.late.len() > NAMED {
            reasons.push(format!("{} more that are too old", self.late.len() - NAMED));
        }
        reasons
    }
}

fn names(services: &[String]) -> String {
    let mut text = services[..services.len().min(NAMED)].join(", ");
    if services.len() > NAMED {
        text.push_str(&format!(" and {} more", services.len() - NAMED));
    }
    text
}

/// The newest committed round of each service that `has` one, in the order of `services`. `None`: no round has it.
pub(crate) fn newest_rounds(
    services: &[ServiceName],
    rounds: &[(u64, Vec<ServiceName>)],
) -> Vec<(ServiceName, Option<u64>)> {
    let newest = |service: &ServiceName| {
        rounds.iter().filter(|(_, held)| held.contains(service)).map(|(number, _)| *number).max()
    };
    services.iter().map(|service| (service.clone(), newest(service))).collect()
}

/// Rounds with the services that their manifests hold, newest first, until each of `services` is found. A manifest that
/// cannot be used holds nothing.
///
/// # Errors
/// When the share fails.
pub(crate) async fn holdings(
    store: &dyn Store,
    ledger: &Ledger,
    services: &[ServiceName],
) -> Result<Vec<(u64, Vec<ServiceName>)>, StoreError> {
    let mut rounds: Vec<&RoundState> = ledger.state.rounds_by_number();
    rounds.retain(|round| round.is_recoverable());
    let mut wanted = services.to_vec();
    let mut found = Vec::new();
    for round in rounds.into_iter().rev() {
        if wanted.is_empty() {
            break;
        }
        let held = match read_manifest(store, &ledger.state, round).await {
            Ok(manifest) => manifest.slices.into_iter().map(|slice| slice.service).collect(),
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::Damaged(_)) => Vec::new(),
        };
        wanted.retain(|service| !held.contains(service));
        found.push((round.open.number, held));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Shortfall, Standing, newest_rounds};
    use muster_protocol::ids::ServiceName;
    use muster_protocol::units::format_duration;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86_400);

    fn standing(service: &str, stored: bool, verified_hours: Option<u64>) -> Standing {
        let verified = verified_hours.map(|hours| Duration::from_secs(3600 * hours));
        Standing { service: service.to_owned(), stored, verified }
    }

    #[test]
    fn ready_only_if_each_service_is_verified_in_time() {
        let ready = |roster: &[Standing]| Shortfall::of(roster, Some(DAY)).is_none();
        assert!(ready(&[standing("a", true, Some(1)), standing("b", true, Some(24))]));
        // A narrow round of `a` makes nothing of `b`.
        assert!(!ready(&[standing("a", true, Some(0)), standing("b", false, None)]));
        assert!(!ready(&[standing("a", true, Some(0)), standing("b", true, Some(25))]));
        assert!(!ready(&[standing("a", true, Some(0)), standing("b", true, None)]));
        assert!(!ready(&[]));
        assert!(Shortfall::of(&[standing("a", true, Some(9999))], None).is_none());
    }

    #[test]
    fn the_reasons_name_the_services() {
        let roster = [
            standing("orders", true, Some(48)),
            standing("secrets", false, None),
            standing("web", true, None),
            standing("dns", true, Some(2)),
        ];
        let reasons = Shortfall::of(&roster, Some(DAY)).reasons();
        assert_eq!(
            reasons,
            [
                "secrets (COVER-01 no slice yet)",
                "web (in no verified round)",
                &format!("orders (last verified {} ago)", format_duration(2 * DAY))
            ]
        );
        let many: Vec<_> = (0..7).map(|n| standing(&format!("s{n}"), false, None)).collect();
        let reasons = Shortfall::of(&many, None).reasons();
        assert_eq!(reasons, ["s0, s1, s2, s3, s4 and 2 more (COVER-01 no slice yet)"]);
    }

    #[test]
    fn the_newest_round_of_each_service_is_found() {
        let name = |text: &str| text.parse::<ServiceName>().expect("a name");
        let rounds = [(4, vec![name("orders")]), (3, vec![]), (2, vec![name("dns"), name("orders")])];
        let asked = [name("dns"), name("orders"), name("web")];
        let found: Vec<_> = newest_rounds(&asked, &rounds).into_iter().map(|(_, round)| round).collect();
        assert_eq!(found, [Some(2), Some(4), None]);
    }
}
