//! `muster recover`: a round from share and kit into a folder, with everything else dead.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use muster_agent::recover::{
    Begun, Existing, Outcome as Recovered, RecoverError, Request, ServiceOutcome, Watch, recover,
};
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{Pin, Seen};
use muster_protocol::units::{format_duration, format_size};
use muster_share::layout::ObjectPath;
use muster_share::verify::{Damage, Fault, Ledger, LedgerError, read_ledger};
use serde::Serialize;

use crate::args::Recover;
use crate::coverage::{holdings, newest_rounds};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{absolute_url, open_store};
use crate::kit::{Kit, wrong_key};
use crate::reading_back::{
    DamageView, count, damage_line, ledger_failure, path_text, select_failure, selector, show_progress,
};
use crate::round_name::RoundName;
use crate::round_view::HeadView;
use crate::screen;

/// Packs that are opened at once at most: each takes up to 16 MiB sealed, and a frame.
const WORKERS_MOST: usize = 8;
/// Warnings that a screen shows of one service.
const WARNINGS_SHOWN: usize = 5;

/// `{"schema":"muster.recover/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    /// `recovered`, `partial`, `damaged`
    state: &'static str,
    fleet: Option<String>,
    round: Option<String>,
    number: Option<u64>,
    outcome: Option<&'static str>,
    committed: Option<String>,
    head: Option<HeadView>,
    into: String,
    services: Vec<ServiceLine>,
    damaged: Vec<DamageView>,
    /// If something is damaged: the newest older round that has everything, by presence and length.
    newest_intact: Option<u64>,
    /// Services that were asked for, or are in the roster, and did not come out of this round.
    missing: Vec<Missing>,
    seconds: f64,
}

/// One of `missing[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Missing {
    service: String,
    /// The newest committed round that holds it.
    newest_round: Option<u64>,
    /// What recovers it.
    command: Option<String>,
}

#[derive(Debug, Serialize)]
struct ServiceLine {
    service: String,
    /// `recovered`, `damaged`, `absent`
    state: &'static str,
    reason: Option<String>,
    files: u64,
    others: u64,
    source_bytes: u64,
    gaps: u64,
    lost: u64,
    first_lost: Vec<String>,
    /// What was there already and stays.
    kept: u64,
    /// What something else has the place of.
    blocked: u64,
    /// Things whose owner is not the one that was captured.
    owners_left: u64,
    warnings: u64,
}

/// Recovers.
pub(crate) async fn run(args: Recover) -> Outcome {
    let (into, existing) = (args.into.clone(), args.existing);
    tokio::select! {
        outcome = recover_share(args) => outcome,
        _ = tokio::signal::ctrl_c() => {
            screen::aside(format!("interrupted: {} is not complete; {}", into.display(), go_on(existing)));
            Ok(Exit::Interrupted)
        }
    }
}

async fn recover_share(args: Recover) -> Outcome {
    let begun = Instant::now();
    let head = args.expect.expect_head.map(Seen::exactly);
    let kit = Kit::open(&args.kit)?;
    let store = open_store(&absolute_url(&args.share)?).await?;
    let request = Request {
        store,
        pin: Pin { root: Some(kit.root), fleet: None, head },
        keys: kit.keys,
        round: selector(&args.round),
        services: args.service.clone(),
        path: args.path.as_ref().map(|path| path.as_bytes().to_vec()),
        into: args.into.clone(),
        existing: args.existing,
        resume: args.resume,
        numeric_owner: args.numeric_owner,
        apart_from: share_folder(&args.share).into_iter().chain([args.kit.clone()]).collect(),
        workers: std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MOST),
    };
    let watch = Watch::default();
    let mut announced = args.json;
    let title = || match watch.begun.get() {
        Some(begun) if !announced => {
            announced = true;
            Some(announce(begun, &request))
        }
        Some(_) | None => None,
    };
    let recovered = show_progress(recover(&request, &watch), &watch.progress, "recovering", title).await;
    let recovered = match recovered {
        Ok(recovered) => recovered,
        Err(error) => {
            if let (true, RecoverError::Damaged { number, damaged, newest_intact }) = (args.json, &error) {
                screen::json(&nothing(&request, *number, damaged, *newest_intact, begun.elapsed()));
            }
            return Err(explain(error, &args, &request).await);
        }
    };
    let missing = match lacking(&args, &request, &recovered).await {
        Ok(missing) => missing,
        Err(failure) => {
            screen::aside(format!("which services this round lacks cannot be told: {}", failure.what()));
            Vec::new()
        }
    };
    // Whoever names a round knows that it is not the fleet; `latest` promises all that there is.
    let short = args.round == RoundName::Latest && !missing.is_empty();
    let blocked = recovered.services.iter().any(|(_, outcome)| outcome.blocked > 0);
    let exit = match (recovered.damaged.is_empty(), recovered.absent.is_empty() && !short && !blocked) {
        (false, _) => Exit::Damaged,
        (true, false) => Exit::Partial,
        (true, true) => Exit::Done,
    };
    if args.json {
        screen::json(&view(&request, &recovered, &missing, exit, begun.elapsed()));
    } else {
        print(&request, &recovered, &missing, begun.elapsed());
    }
    // The round that was named came out whole; the share is not.
    if damaged_within(&request, &recovered).is_none()
        && let Some(shortened) = shortened(&request).await
    {
        return Err(shortened);
    }
    Ok(exit)
}

/// The share's folder, where it is one.
fn share_folder(share: &str) -> Option<PathBuf> {
    let path = share.strip_prefix("file://").unwrap_or(share);
    (!path.contains("://")).then(|| PathBuf::from(path))
}

/// What should have come out and did not: of the services asked for, or else of the roster.
async fn lacking(args: &Recover, request: &Request, recovered: &Recovered) -> Result<Vec<Missing>, Failure> {
    if args.service.is_empty() && args.path.is_some() {
        return Ok(Vec::new());
    }
    let ledger = read_ledger(&request.store, request.pin, false).await.map_err(ledger_failure)?;
    let wanted = if args.service.is_empty() { ledger.state.services() } else { args.service.clone() };
    let out = |service: &ServiceName| recovered.services.iter().any(|(name, _)| name == service);
    let lacking: Vec<_> = wanted.into_iter().filter(|service| !out(service)).collect();
    elsewhere(args, request, &ledger, &lacking).await
}

/// Where `services` are to be had.
async fn elsewhere(
    args: &Recover,
    request: &Request,
    ledger: &Ledger,
    services: &[ServiceName],
) -> Result<Vec<Missing>, Failure> {
    let rounds = holdings(request.store.as_ref(), ledger, services).await?;
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
fn missing_lines(missing: &Missing) -> Vec<String> {
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

/// Why nothing was recovered; what the log still tells about it is added.
async fn explain(error: RecoverError, args: &Recover, request: &Request) -> Failure {
    match &error {
        RecoverError::Service { service, .. } => {
            let Ok(ledger) = read_ledger(&request.store, request.pin, false).await else {
                return failure(error, request);
            };
            let found = elsewhere(args, request, &ledger, std::slice::from_ref(service)).await;
            let Ok([found]) = found.as_deref() else { return failure(error, request) };
            let failure = failure(error, request);
            match (found.newest_round, &found.command) {
                (Some(round), Some(command)) => failure
                    .because(format!("The newest round that has {} is {round}.", found.service))
                    .next(command),
                (Some(_), None) | (None, _) => failure.because("No committed round has it."),
            }
        }
        RecoverError::Damaged { newest_intact, .. } => {
            let newest_intact = *newest_intact;
            match shortened(request).await {
                Some(shortened) => {
                    let next = intact(newest_intact);
                    shortened.because("Nothing was written.").next(next.trim_start_matches("→ "))
                }
                None => failure(error, request),
            }
        }
        RecoverError::Target { .. }
        | RecoverError::Inside { .. }
        | RecoverError::Resume { .. }
        | RecoverError::CutLinks { .. }
        | RecoverError::Stopped
        | RecoverError::MakeTarget { .. }
        | RecoverError::Select(_)
        | RecoverError::Path { .. }
        | RecoverError::Key { .. }
        | RecoverError::OtherFleet(_)
        | RecoverError::Forged(_)
        | RecoverError::Ledger(_)
        | RecoverError::Store(_)
        | RecoverError::Write(_) => failure(error, request),
    }
}

/// Whether something else is damaged than the log's end before the head that was noted.
fn damaged_within<'a>(request: &Request, recovered: &'a Recovered) -> Option<&'a Damage> {
    let slot = request.pin.head.map(|seen| ObjectPath::LogRecord(seen.head.number));
    recovered.damaged.iter().find(|damage| Some(&damage.object) != slot.as_ref())
}

/// The failure of a share that is whole as far as it goes, and ends before the head that was noted.
async fn shortened(request: &Request) -> Option<Failure> {
    let seen = request.pin.head?.head;
    let ledger = read_ledger(&request.store, request.pin, false).await.ok()?;
    let slot = ObjectPath::LogRecord(seen.number);
    let only = ledger.damaged.iter().all(|damage| damage.object == slot && damage.fault == Fault::Missing);
    let head = ledger.state.head.number;
    (only && head < seen.number).then(|| Failure::shortened(head, seen.number))
}

fn announce(begun: &Begun, request: &Request) -> String {
    let fleet = begun.fleet.as_ref().map(ToString::to_string).unwrap_or_default();
    let at = screen::time(begun.committed);
    let mut text = format!(
        "round {} of fleet {fleet}, {at}, {} · log head {}",
        begun.number,
        begun.outcome.as_str(),
        begun.head.number
    );
    if let Some(known) = request.pin.head {
        text.push_str(&format!(" (known: {})", known.head.number));
    }
    text
}

fn state_of(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "recovered",
        Exit::Partial => "partial",
        Exit::Failed
        | Exit::Usage
        | Exit::Damaged
        | Exit::Key
        | Exit::Unreachable
        | Exit::Refused
        | Exit::Interrupted => "damaged",
    }
}

fn view(request: &Request, recovered: &Recovered, missing: &[Missing], exit: Exit, took: Duration) -> View {
    let begun = &recovered.begun;
    let services = recovered.services.iter().map(|(service, outcome)| ServiceLine {
        service: service.to_string(),
        state: if outcome.damaged { "damaged" } else { "recovered" },
        reason: None,
        files: outcome.files,
        others: outcome.others,
        source_bytes: outcome.bytes,
        gaps: outcome.gaps,
        lost: outcome.lost,
        first_lost: outcome.first_lost.iter().map(|path| path_text(path)).collect(),
        kept: outcome.kept,
        blocked: outcome.blocked,
        owners_left: outcome.owners_left,
        warnings: outcome.warnings.len() as u64 + outcome.more_warnings,
    });
    let absent = recovered.absent.iter().map(|absentee| ServiceLine {
        service: absentee.service.to_string(),
        state: "absent",
        reason: Some(format!("{}: {}", absentee.code, absentee.reason)),
        files: 0,
        others: 0,
        source_bytes: 0,
        gaps: 0,
        lost: 0,
        first_lost: Vec::new(),
        kept: 0,
        blocked: 0,
        owners_left: 0,
        warnings: 0,
    });
    View {
        schema: "muster.recover/1",
        state: state_of(exit),
        fleet: begun.fleet.as_ref().map(ToString::to_string),
        round: Some(begun.round.to_string()),
        number: Some(begun.number),
        outcome: Some(begun.outcome.as_str()),
        committed: Some(screen::rfc3339(begun.committed)),
        head: Some(HeadView { number: begun.head.number, hash: begun.head.hash.to_string() }),
        into: request.into.display().to_string(),
        services: services.chain(absent).collect(),
        damaged: recovered.damaged.iter().map(DamageView::new).collect(),
        newest_intact: recovered.newest_intact,
        missing: missing.to_vec(),
        seconds: took.as_secs_f64(),
    }
}

/// What a script reads when nothing could be recovered.
fn nothing(
    request: &Request,
    number: Option<u64>,
    damaged: &[Damage],
    newest_intact: Option<u64>,
    took: Duration,
) -> View {
    View {
        schema: "muster.recover/1",
        state: "damaged",
        fleet: None,
        round: None,
        number,
        outcome: None,
        committed: None,
        head: None,
        into: request.into.display().to_string(),
        services: Vec::new(),
        damaged: damaged.iter().map(DamageView::new).collect(),
        newest_intact,
        missing: Vec::new(),
        seconds: took.as_secs_f64(),
    }
}

fn print(request: &Request, recovered: &Recovered, missing: &[Missing], took: Duration) {
    for (service, outcome) in &recovered.services {
        tell(service.as_str(), outcome);
    }
    for absentee in &recovered.absent {
        screen::line(format!("absent   {}   {}: {}", absentee.service, absentee.code, absentee.reason));
    }
    for line in missing.iter().flat_map(missing_lines) {
        screen::line(line);
    }
    for damage in &recovered.damaged {
        screen::line(damage_line(damage));
    }
    let any = |outcome: &ServiceOutcome| outcome.files + outcome.others + outcome.kept > 0;
    let done = recovered.services.iter().filter(|(_, outcome)| any(outcome));
    let (mut services, mut files, mut bytes) = (0, 0, 0);
    for (_, outcome) in done {
        (services, files, bytes) = (services + 1, files + outcome.files, bytes + outcome.bytes);
    }
    screen::line(format!(
        "{}, {}, {} recovered and compared with the index in {}",
        count(services, "service"),
        count(files, "file"),
        format_size(bytes),
        format_duration(took)
    ));
    let into = request.into.display();
    if damaged_within(request, recovered).is_none() {
        screen::line(format!(
            "→ next: docs/recovery.md; what was recovered lies in {into}/<service>/<source>/"
        ));
        return;
    }
    screen::line(format!(
        "VERIFY-01: round {} is damaged; what it still holds lies in {into}",
        recovered.begun.number
    ));
    screen::line(intact(recovered.newest_intact));
}

fn tell(service: &str, outcome: &ServiceOutcome) {
    if outcome.lost > 0 {
        let first: Vec<_> = outcome.first_lost.iter().map(|path| path_text(path)).collect();
        screen::line(format!("left out {service}   {}: {}", count(outcome.lost, "file"), first.join(", ")));
    }
    if outcome.gaps > 0 {
        let first: Vec<_> =
            outcome.first_gaps.iter().map(|(path, what)| format!("{}: {what}", path_text(path))).collect();
        screen::line(format!(
            "gaps     {service}   {} that the backup does not hold whole: {}",
            entries(outcome.gaps),
            first.join("; ")
        ));
    }
    if outcome.kept > 0 {
        screen::line(format!("kept     {service}   {} that were there already", entries(outcome.kept)));
    }
    if outcome.blocked > 0 {
        let blocked = entries(outcome.blocked);
        screen::line(format!("left out {service}   {blocked}: something else is in the place, and stays"));
    }
    if outcome.owners_left > 0 {
        screen::line(format!(
            "owners   {service}   {} belong to whoever runs this: only root restores owners",
            entries(outcome.owners_left)
        ));
    }
    for (path, what) in outcome.warnings.iter().take(WARNINGS_SHOWN) {
        screen::aside(format!("warning: {service}/{}: {what}", path_text(path)));
    }
    let more = outcome.warnings.len().saturating_sub(WARNINGS_SHOWN) as u64 + outcome.more_warnings;
    if more > 0 {
        screen::aside(format!("warning: {service}: {more} more of these"));
    }
}

fn entries(number: u64) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}

fn intact(number: Option<u64>) -> String {
    match number {
        Some(number) => format!(
            "→ newest intact round by presence and length: {number}; take it with --round {number} and another --into"
        ),
        None => "→ no other round is intact; another copy of the share may have these objects".to_owned(),
    }
}

/// What goes on with a recovery that was begun.
fn go_on(existing: Existing) -> &'static str {
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

fn failure(error: RecoverError, request: &Request) -> Failure {
    let because = |exit: Exit, error: &RecoverError| Failure::new(exit, error.to_string()).caused_by(error);
    match error {
        RecoverError::Store(error) => {
            let failure: Failure = error.into();
            if begun_in(request) { failure.next(go_on(request.existing)) } else { failure }
        }
        RecoverError::Ledger(LedgerError::Store(error)) => error.into(),
        RecoverError::Ledger(error) => ledger_failure(error),
        RecoverError::Select(error) => select_failure(&error),
        RecoverError::Key { number, wanted } => wrong_key(number, &wanted, &request.keys),
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
        RecoverError::Stopped => because(Exit::Interrupted, &error),
        RecoverError::MakeTarget { .. } => because(Exit::Usage, &error),
        RecoverError::Service { .. } | RecoverError::Path { .. } => because(Exit::Usage, &error),
        RecoverError::OtherFleet(_) => because(Exit::Key, &error)
            .next("take the kit of this share's fleet; its page names fleet and root key"),
        RecoverError::Forged(_) => because(Exit::Damaged, &error)
            .next("compare root.pub with the kit's printed page, then the share with another copy of it"),
        RecoverError::Write(_) => because(Exit::Failed, &error).next(format!(
            "{} is not complete: make room, then {}",
            request.into.display(),
            go_on(request.existing)
        )),
        RecoverError::Damaged { ref damaged, newest_intact, .. } => {
            let mut failure = Failure::new(Exit::Damaged, format!("VERIFY-01: {error}; nothing was written"));
            for damage in damaged {
                failure = failure.because(damage_line(damage));
            }
            let next = intact(newest_intact);
            failure
                .next(next.trim_start_matches("→ "))
                .next("muster verify --share URL --kit PATH names everything")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{missing, missing_lines, shortened};
    use crate::args::{ExpectHead, Recover};
    use crate::exit::Exit;
    use muster_agent::recover::{Existing, Request};
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

    #[tokio::test]
    async fn a_share_that_ends_before_the_noted_head_is_share_08() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Signer::from_seed(&random(&mut OsEntropy));
        let store = store::create(&folder.path().join("share").display().to_string()).await.expect("a share");
        let genesis = Genesis {
            name: "test".parse().expect("a name"),
            salt: random(&mut OsEntropy),
            share: Nonce::from_bytes(random(&mut OsEntropy)),
            created: UnixMillis(1),
        };
        let log = log::found(Arc::clone(&store), &root, &genesis).await.expect("founded");
        let head = log.head();
        let request = |head: Head| Request {
            store: Arc::clone(&store),
            pin: Pin { root: Some(root.key_id()), fleet: None, head: Some(Seen::exactly(head)) },
            keys: Arc::new(Vec::new()),
            round: RoundSelector::Latest,
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
