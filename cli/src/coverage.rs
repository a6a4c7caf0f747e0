//! Which rounds hold which services: where what a round lacks is to be found.

use muster_protocol::ids::ServiceName;
use muster_protocol::log::RoundState;
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::read_manifest;
use muster_share::verify::{Ledger, Trouble};

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
    use super::newest_rounds;
    use muster_protocol::ids::ServiceName;

    #[test]
    fn the_newest_round_of_each_service_is_found() {
        let name = |text: &str| text.parse::<ServiceName>().expect("a name");
        let rounds = [(4, vec![name("orders")]), (3, vec![]), (2, vec![name("dns"), name("orders")])];
        let asked = [name("dns"), name("orders"), name("web")];
        let found: Vec<_> = newest_rounds(&asked, &rounds).into_iter().map(|(_, round)| round).collect();
        assert_eq!(found, [Some(2), Some(4), None]);
    }
}
