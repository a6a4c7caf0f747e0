//! Why a recovery does not happen, or not to its end, as an operator reads it: object, cause, next step.

use muster_agent::recover::{Existing, RecoverError, Request, RoundError};
use muster_share::layout::ObjectPath;
use muster_share::verify::{Fault, read_ledger};

use super::missing::elsewhere;
use crate::args::Recover;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reading_back::{intact, round_failure};

/// The failure; what the log still tells about it is added.
pub(super) async fn explain(error: RecoverError, args: &Recover, request: &Request) -> Failure {
    let because = |exit: Exit, error: &RecoverError| Failure::new(exit, error.to_string()).caused_by(error);
    match error {
        RecoverError::Round(error) => explain_round(error, args, request).await,
        RecoverError::Stopped => because(Exit::Interrupted, &error),
        RecoverError::Target { .. } => because(Exit::Usage, &error)
            .next("give a folder that does not exist yet: --into")
            .next("or say what becomes of what is there: --resume, --existing keep, --existing replace"),
        RecoverError::Inside { .. } => {
            because(Exit::Usage, &error).next("give a folder outside of the share and the kit: --into")
        }
        RecoverError::Resume { .. } => because(Exit::Usage, &error)
            .next("give the round it was begun with: --round; or a folder that does not exist yet: --into"),
        RecoverError::CutLinks { .. } => because(Exit::Failed, &error)
            .next("recover the folder that holds the files, too: a shorter --path"),
        RecoverError::MakeTarget { .. } => {
            because(Exit::Usage, &error).next("give a place where a folder can be made: --into")
        }
        RecoverError::Path { number, .. } => because(Exit::Usage, &error)
            .next(format!("muster ls {number} --kit PATH, and muster find, name what the round holds")),
        RecoverError::Write(_) => because(Exit::Failed, &error).next(format!(
            "{} is not complete: make room, then {}",
            request.into.display(),
            go_on(request.existing)
        )),
    }
}

async fn explain_round(error: RoundError, args: &Recover, request: &Request) -> Failure {
    let from = &request.from;
    match error {
        RoundError::Service { ref service, .. } => {
            let service = service.clone();
            let failure = round_failure(error, &from.keys);
            let Ok(ledger) = read_ledger(&from.store, from.pin, false).await else { return failure };
            let found = elsewhere(args, from, &ledger, &[service]).await;
            let Ok([found]) = found.as_deref() else { return failure };
            match (found.newest_round, &found.command) {
                (Some(round), Some(command)) => failure
                    .because(format!("The newest round that has {} is {round}.", found.service))
                    .next(command),
                (Some(_), None) | (None, _) => failure.because("No committed round has it."),
            }
        }
        RoundError::Damaged { newest_intact, .. } => match shortened(request).await {
            Some(shortened) => shortened.next(intact(newest_intact)),
            None => round_failure(error, &from.keys),
        }
        .because("Nothing was written."),
        RoundError::Store(_) if begun_in(request) => {
            round_failure(error, &from.keys).next(go_on(request.existing))
        }
        RoundError::Select(_)
        | RoundError::Key(_)
        | RoundError::OtherFleet(_)
        | RoundError::Forged(_)
        | RoundError::Ledger(_)
        | RoundError::Store(_) => round_failure(error, &from.keys),
    }
}

/// The failure of a share that is whole as far as it goes, and ends before the head that was noted.
pub(super) async fn shortened(request: &Request) -> Option<Failure> {
    let seen = request.from.pin.head?.head;
    let ledger = read_ledger(&request.from.store, request.from.pin, false).await.ok()?;
    let slot = ObjectPath::LogRecord(seen.number);
    let only = ledger.damaged.iter().all(|damage| damage.object == slot && damage.fault == Fault::Missing);
    let head = ledger.state.head.number;
    (only && head < seen.number).then(|| Failure::shortened(head, seen.number))
}

/// What goes on with a recovery that was begun.
pub(super) fn go_on(existing: Existing) -> &'static str {
    match existing {
        Existing::Refuse => "the same command with --resume goes on with it",
        Existing::Keep | Existing::Replace => "the same command goes on with it",
    }
}

/// Whether something may have been written.
fn begun_in(request: &Request) -> bool {
    request.existing == Existing::Refuse
        && request.into.read_dir().is_ok_and(|mut items| items.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::shortened;
    use crate::exit::Exit;
    use muster_agent::recover::{Existing, Origin, Request};
    use muster_protocol::config::ShareConfig;
    use muster_protocol::entropy::random;
    use muster_protocol::envelope::Signer;
    use muster_protocol::ids::Nonce;
    use muster_protocol::log::{Genesis, Head, Pin, Seen};
    use muster_protocol::time::UnixMillis;
    use muster_share::entropy::OsEntropy;
    use muster_share::log;
    use muster_share::store;
    use muster_share::verify::RoundSelector;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_share_that_ends_before_the_noted_head_is_share_08() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Signer::from_seed(&random(&mut OsEntropy));
        let store = store::create(&ShareConfig::at(folder.path().join("share").display().to_string()))
            .await
            .expect("a share");
        let genesis = Genesis {
            name: "test".parse().expect("a name"),
            salt: random(&mut OsEntropy),
            share: Nonce::from_bytes(random(&mut OsEntropy)),
            created: UnixMillis(1),
        };
        let log = log::found(Arc::clone(&store), &root, &genesis).await.expect("founded");
        let head = log.head();
        let request = |head: Head| Request {
            from: Origin {
                store: Arc::clone(&store),
                pin: Pin { root: Some(root.key_id()), fleet: None, head: Some(Seen::exactly(head)) },
                keys: Arc::new(Vec::new()),
                round: RoundSelector::Latest,
            },
            services: Vec::new(),
            path: None,
            into: folder.path().join("out"),
            existing: Existing::Refuse,
            resume: false,
            numeric_owner: false,
            apart_from: Vec::new(),
            workers: 1,
        };
        let failure = shortened(&request(Head { number: head.number + 1, ..head })).await.expect("short");
        assert_eq!(failure.exit(), Exit::Damaged);
        let text = "SHARE-08: the share ends at record 0, but 1 was noted: newer rounds are gone";
        assert_eq!(failure.what(), text);
        assert!(shortened(&request(head)).await.is_none());
    }
}
