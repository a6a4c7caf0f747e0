//! What a recovery should have brought and did not: which services, and the command that gets each.

use muster_agent::recover::{Origin, Outcome as Recovered};
use muster_protocol::ids::ServiceName;
use muster_share::verify::{Ledger, read_ledger};
use serde::Serialize;

use crate::args::Recover;
use crate::coverage::{holdings, newest_rounds};
use crate::failure::Failure;
use crate::reading_back::ledger_failure;

/// One of `missing[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Missing {
    pub(super) service: String,
    /// The newest committed round that holds it.
    pub(super) newest_round: Option<u64>,
    /// What recovers it.
    pub(super) command: Option<String>,
}

/// What should have come out and did not: of the services asked for, or else of the roster.
pub(super) async fn lacking(
    args: &Recover,
    from: &Origin,
    recovered: &Recovered,
) -> Result<Vec<Missing>, Failure> {
    if args.service.is_empty() && args.path.is_some() {
        return Ok(Vec::new());
    }
    let ledger = read_ledger(&from.store, from.pin, false).await.map_err(ledger_failure)?;
    let wanted = if args.service.is_empty() { ledger.state.services() } else { args.service.clone() };
    let out = |service: &ServiceName| recovered.services.iter().any(|(name, _)| name == service);
    let lacking: Vec<_> = wanted.into_iter().filter(|service| !out(service)).collect();
    elsewhere(args, from, &ledger, &lacking).await
}

/// Where `services` are to be had.
pub(super) async fn elsewhere(
    args: &Recover,
    from: &Origin,
    ledger: &Ledger,
    services: &[ServiceName],
) -> Result<Vec<Missing>, Failure> {
    let rounds = holdings(from.store.as_ref(), ledger, services).await?;
    let newest = newest_rounds(services, &rounds).into_iter();
    Ok(newest.map(|(service, round)| missing(args, &service, round)).collect())
}

fn missing(args: &Recover, service: &ServiceName, newest_round: Option<u64>) -> Missing {
    let command = newest_round.map(|round| {
        format!(
            "muster recover --share {} --kit {} --round {round} --service {service} --into DIR",
            args.share,
            args.kit.display()
        )
    });
    Missing { service: service.to_string(), newest_round, command }
}

/// The lines of a service that is not in what was recovered.
pub(super) fn missing_lines(missing: &Missing) -> Vec<String> {
    match (missing.newest_round, &missing.command) {
        (Some(round), Some(command)) => vec![
            format!("not here {}   its newest round is {round}", missing.service),
            format!("         → {command}"),
        ],
        (Some(_), None) | (None, _) => {
            vec![format!("not here {}   no committed round holds it", missing.service)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{missing, missing_lines};
    use crate::args::{ExpectHead, Recover};
    use muster_agent::recover::Existing;

    fn args() -> Recover {
        Recover {
            share: "/mnt/share".to_owned(),
            kit: "/media/kit".into(),
            round: "latest".parse().expect("a name"),
            service: Vec::new(),
            path: None,
            expect: ExpectHead::default(),
            into: "out".into(),
            existing: Existing::Refuse,
            resume: false,
            numeric_owner: false,
            json: false,
        }
    }

    #[test]
    fn what_a_round_lacks_is_named_with_the_command_that_recovers_it() {
        let service = "secrets".parse().expect("a name");
        let lines = missing_lines(&missing(&args(), &service, Some(3)));
        assert_eq!(lines[0], "not here secrets   its newest round is 3");
        let command =
            "muster recover --share /mnt/share --kit /media/kit --round 3 --service secrets --into DIR";
        assert!(lines[1].ends_with(command), "{}", lines[1]);
        let lines = missing_lines(&missing(&args(), &service, None));
        assert_eq!(lines, ["not here secrets   no committed round holds it"]);
    }
}
