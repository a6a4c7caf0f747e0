//! Recovery and verification of small shares: round trips, damage of every kind, and hostile indexes.

mod child;
mod existing;
mod fidelity;
mod hostile;
mod large;
mod unprivileged;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::envelope::Signer;
use muster_protocol::log::Pin;
use muster_share::entropy::OsEntropy;
use muster_share::entry::{Entry, Gap, Kind};
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::verify::chain::WrongKey;
use muster_share::verify::{Fault, Progress, Report, RoundSelector, VerifyError, read_ledger, verify};

use super::fixture::{Fixture, Misname, file, folder, found_below, name, noise};
use super::{Existing, Origin, Outcome, RecoverError, Request, RoundError, Watch, recover};

pub(super) fn request(fixture: &Fixture, into: PathBuf) -> Request {
    Request {
        from: origin(fixture),
        services: Vec::new(),
        path: None,
        into,
        existing: Existing::Refuse,
        resume: false,
        numeric_owner: false,
        apart_from: vec![fixture.share()],
        workers: 2,
    }
}

pub(super) fn origin(fixture: &Fixture) -> Origin {
    Origin {
        store: Arc::clone(&fixture.store),
        pin: fixture.pin(),
        keys: keys(fixture),
        round: RoundSelector::Latest,
    }
}

fn keys(fixture: &Fixture) -> Arc<Vec<Identity>> {
    let text = fixture.key.to_file_text("now");
    Arc::new(Identity::parse_file(&text).expect("an identity"))
}

pub(super) async fn run(request: &Request) -> Result<Outcome, RecoverError> {
    recover(request, &Watch::default()).await
}

async fn checked(fixture: &Fixture, pin: Pin, with_keys: bool) -> Report {
    let ledger = read_ledger(&fixture.store, pin, true).await.expect("a log");
    let keys = with_keys.then(|| keys(fixture));
    verify(&fixture.store, &ledger, None, keys, &Progress::default()).await.expect("verified")
}

/// What a recovery of both services must give, by path below the target.
fn expected(round: u64) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for service in ["a", "b"] {
        let tree = Fixture::tree(service, round);
        let content: BTreeMap<_, _> =
            tree.iter().map(|(entry, content)| (entry.path.clone(), content.clone())).collect();
        for (entry, bytes) in tree {
            let path = format!("{service}/files/{}", String::from_utf8(entry.path).expect("UTF-8"));
            match (entry.kind, entry.hard_link) {
                (Kind::File, Some(target)) => drop(all.insert(path, content[&target.to_vec()].clone())),
                (Kind::File, None) => drop(all.insert(path, bytes)),
                (Kind::Symlink, _) => drop(all.insert(path, b"link".to_vec())),
                _ => {}
            }
        }
    }
    all
}

/// Every file that is there has the right bytes.
fn nothing_wrong(into: &Path, round: u64) -> usize {
    let (found, want) = (found_below(into), expected(round));
    for (path, bytes) in &found {
        assert!(want.get(path) == Some(bytes), "{path} has {} wrong bytes", bytes.len());
    }
    found.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_comes_back_whole_and_verifies() {
    let fixture = Fixture::with_two_rounds().await;
    for with_keys in [false, true] {
        let report = checked(&fixture, fixture.pin(), with_keys).await;
        assert!(report.is_whole() && report.services.len() == 2, "{:?}", report.damaged);
        assert_eq!(report.newest_whole(), Some(2));
        assert!(report.objects > 12, "{}", report.objects);
    }
    for (round, number) in [(RoundSelector::Latest, 2), (RoundSelector::Number(1), 1)] {
        let into = fixture.target(&format!("round-{number}"));
        let outcome =
            run(&Request { from: Origin { round, ..origin(&fixture) }, ..request(&fixture, into.clone()) })
                .await
                .expect("recovered");
        assert!(outcome.damaged.is_empty() && outcome.absent.is_empty());
        assert_eq!(found_below(&into), expected(number));
        let files: u64 = outcome.services.iter().map(|(_, service)| service.files).sum();
        assert_eq!(files as usize, expected(number).len() - 2, "all but the symbolic links");
        let bytes: u64 = outcome.services.iter().map(|(_, service)| service.bytes).sum();
        assert_eq!(bytes, outcome.begun.bytes);
        let same = |a: &str, b: &str| {
            use std::os::unix::fs::MetadataExt;
            let ino = |path: &str| into.join(path).metadata().expect("there").ino();
            ino(a) == ino(b)
        };
        assert!(same("a/files/etc/big", "a/files/etc/link") && !same("a/files/etc/big", "a/files/etc/twin"));
        let meta = into.join("b/files/etc/small").metadata().expect("there");
        assert_eq!(std::os::unix::fs::MetadataExt::mtime(&meta), 1_000_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_kit_writes_nothing() {
    let fixture = Fixture::with_two_rounds().await;
    let into = fixture.target("into");
    let base = request(&fixture, into.clone());
    let wrong = Arc::new(vec![Identity::generate(&mut OsEntropy)]);
    let from = |origin: Origin| Request { from: origin, ..base.clone() };
    let keys = Arc::clone(&wrong);
    let error = run(&from(Origin { keys, ..origin(&fixture) })).await.expect_err("wrong key");
    let RecoverError::Round(RoundError::Key(WrongKey { wanted, opened, .. })) = error else {
        panic!("{error}")
    };
    assert_eq!((wanted, opened.len()), (vec![fixture.key.recipient()], 0));
    let other = Pin { root: Some(Signer::from_seed(&[99; 32]).key_id()), ..Pin::default() };
    let both = Origin { keys: Arc::clone(&wrong), pin: other, ..origin(&fixture) };
    let error = run(&from(both)).await.expect_err("other fleet");
    assert!(matches!(error, RecoverError::Round(RoundError::OtherFleet(_))), "{error}");
    let error = run(&from(Origin { pin: other, ..origin(&fixture) })).await.expect_err("other root");
    assert!(matches!(error, RecoverError::Round(RoundError::Forged(_))), "{error}");
    assert!(!into.exists());
    let ledger = read_ledger(&fixture.store, fixture.pin(), true).await.expect("a log");
    let error = verify(&fixture.store, &ledger, None, Some(wrong), &Progress::default()).await;
    assert!(matches!(error, Err(VerifyError::Key(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_in_use_is_left_alone() {
    let fixture = Fixture::with_two_rounds().await;
    let into = fixture.target("into");
    std::fs::create_dir(&into).expect("made");
    std::fs::write(into.join("mine"), b"mine").expect("written");
    let error = run(&request(&fixture, into.clone())).await.expect_err("in use");
    assert!(matches!(error, RecoverError::Target { .. }), "{error}");
    std::fs::remove_file(into.join("mine")).expect("removed");
    run(&request(&fixture, into.clone())).await.expect("an empty folder will do");
    assert_eq!(found_below(&into), expected(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_paths_are_selected() {
    let fixture = Fixture::with_two_rounds().await;
    let mut base = request(&fixture, fixture.target("one"));
    base.services = vec![name("b")];
    let outcome = run(&base).await.expect("recovered");
    assert_eq!(outcome.services.len(), 1);
    assert!(found_below(&base.into).keys().all(|path| path.starts_with("b/")));
    base.services = vec![name("zz")];
    base.into = fixture.target("none");
    assert!(matches!(run(&base).await, Err(RecoverError::Round(RoundError::Service { number: 2, .. }))));
    base.services = Vec::new();
    base.path = Some(b"etc/absent".to_vec());
    assert!(matches!(run(&base).await, Err(RecoverError::Path { number: 2, .. })));
    assert!(!base.into.exists());
    // The link's file lies outside: the link gets its content.
    for (at, path) in ["files/etc/link", "etc/link"].into_iter().enumerate() {
        base.into = fixture.target(&format!("link-{at}"));
        base.path = Some(path.as_bytes().to_vec());
        run(&base).await.expect("recovered");
        let found = found_below(&base.into);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a/files/etc/link", "b/files/etc/link"]);
        assert!(nothing_wrong(&base.into, 2) == 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_round_names_its_absentees_and_gaps() {
    let mut fixture = Fixture::new().await;
    let gone = Entry { gap: Some(Gap::Unreadable(13)), ..Entry::new(b"secret".to_vec(), Kind::File, 0) };
    let tree = vec![folder(""), (gone, Vec::new()), file("there", b"x".to_vec())];
    fixture.round(vec![(name("a"), vec![("files", tree)])], &["b"]).await;
    let into = fixture.target("into");
    let outcome = run(&request(&fixture, into.clone())).await.expect("recovered");
    assert_eq!(outcome.absent.len(), 1);
    assert_eq!(outcome.absent[0].service, name("b"));
    let (_, a) = &outcome.services[0];
    assert_eq!((a.gaps, a.files, a.lost), (1, 1, 0));
    assert_eq!(a.first_gaps[0].0, b"files/secret");
    assert_eq!(found_below(&into).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_index_writes_nothing_of_its_service() {
    for bad in ["../escape", "/etc/escape", "link/escape", "link", "etc", "a/late"] {
        let mut fixture = Fixture::new().await;
        let tree = vec![
            folder(""),
            folder("a"),
            folder("etc"),
            super::fixture::symlink("link", "/tmp"),
            file(bad, b"evil".to_vec()),
        ];
        let good = Fixture::tree("b", 1);
        fixture
            .round(vec![(name("a"), vec![("files", tree)]), (name("b"), vec![("files", good)])], &[])
            .await;
        let into = fixture.target("into");
        let outcome = run(&request(&fixture, into.clone())).await.expect("b is whole");
        assert_eq!(outcome.damaged.len(), 1, "{bad}");
        assert!(matches!(outcome.damaged[0].object, ObjectPath::Slice { part: SlicePart::Index, .. }));
        assert!(!into.join("a").exists() && !fixture.target("escape").exists());
        let b =
            |all: BTreeMap<String, Vec<u8>>| all.into_iter().filter(|(p, _)| p.starts_with("b/")).collect();
        let (found, want): (Vec<_>, Vec<_>) = (b(found_below(&into)), b(expected(1)));
        assert!(found == want, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misnamed_chunk_is_never_written() {
    let mut fixture = Fixture::new().await;
    let tree = |extra: Option<super::fixture::Item>| {
        let mut tree = vec![folder(""), file("good", noise(1, 50_000))];
        tree.extend(extra);
        vec![(name("a"), vec![("files", tree)])]
    };
    fixture.round(tree(None), &["b"]).await;
    // A file's chunk: that file is left out, the others come.
    fixture.services.get_mut(&name("a")).expect("a").misname = Misname::Files;
    fixture.round(tree(Some(file("wrong", noise(3, 50_000)))), &["b"]).await;
    let into = fixture.target("some");
    let outcome = run(&request(&fixture, into.clone())).await.expect("what is whole is recovered");
    assert!(!outcome.damaged.is_empty());
    let found = found_below(&into);
    assert_eq!(found.values().collect::<Vec<_>>(), [&noise(1, 50_000)], "{:?}", found.keys());

    fixture.services.get_mut(&name("a")).expect("a").misname = Misname::All;
    fixture.round(tree(Some(file("bad", noise(2, 50_000)))), &["b"]).await;
    let into = fixture.target("into");
    // The entry stream is misnamed, too: nothing of the service can be read.
    let error = run(&request(&fixture, into.clone())).await.expect_err("damaged");
    assert!(
        matches!(
            error,
            RecoverError::Round(RoundError::Damaged { number: Some(3), newest_intact: Some(2), .. })
        ),
        "{error}"
    );
    assert!(!into.exists());
    let report = checked(&fixture, fixture.pin(), true).await;
    assert!(report.damaged.iter().any(|d| matches!(d.damage.object, ObjectPath::Pack { .. })));
    assert!(checked(&fixture, fixture.pin(), false).await.is_whole(), "the hashes are right");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Flip,
    Truncate,
    Delete,
    Empty,
    Swap,
}

const ACTIONS: [Action; 5] = [Action::Flip, Action::Truncate, Action::Delete, Action::Empty, Action::Swap];

impl Action {
    fn apply(self, path: &Path, other: &[u8]) {
        let bytes = std::fs::read(path).expect("read");
        std::fs::remove_file(path).expect("removed");
        let write = |bytes: &[u8]| std::fs::write(path, bytes).expect("written");
        match self {
            Self::Flip => {
                let mut bytes = bytes;
                let at = bytes.len() / 2;
                bytes[at] ^= 1;
                write(&bytes);
            }
            Self::Truncate => write(&bytes[..bytes.len() - 1]),
            Self::Delete => {}
            Self::Empty => write(b""),
            Self::Swap => {
                assert_ne!(bytes, other);
                write(other);
            }
        }
    }
}

/// Objects of service `a` and of the fleet, one of each kind, and another of its kind to swap it with.
fn victims(share: &Path, fixture: &Fixture) -> Vec<(&'static str, PathBuf, Vec<u8>)> {
    let mut all: Vec<PathBuf> = Vec::new();
    let mut folders = vec![share.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("listed") {
            let path = entry.expect("entry").path();
            if path.is_dir() { folders.push(path) } else { all.push(path) }
        }
    }
    all.sort();
    let of = |part: &str, ending: &str| -> Vec<PathBuf> {
        let fits = |path: &&PathBuf| {
            let path = path.to_str().expect("UTF-8");
            path.contains(part) && path.ends_with(ending)
        };
        all.iter().filter(fits).cloned().collect()
    };
    let mut victims = Vec::new();
    for (kind, part, ending) in [
        ("pack", "agents/a/packs/", ".age"),
        ("index", "agents/a/slices/", ".index"),
        ("chunks", "agents/a/slices/", ".chunks"),
        ("packs", "agents/a/slices/", ".packs"),
        ("receipt", "agents/a/slices/", ".receipt"),
        ("manifest", "manifests/", ""),
    ] {
        let fitting = of(part, ending);
        for (at, path) in fitting.iter().enumerate() {
            let other = &fitting[(at + 1) % fitting.len()];
            victims.push((kind, path.clone(), std::fs::read(other).expect("read")));
        }
    }
    let record = |number: u64| share.join(ObjectPath::LogRecord(number).to_string());
    let head = fixture.log.head().number;
    let other = std::fs::read(record(2)).expect("read");
    victims.push(("log-middle", record(5), other.clone()));
    victims.push(("log-last", record(head), other));
    let format = std::fs::read_to_string(share.join("FORMAT")).expect("read");
    let swapped = format.replace(&fixture.log.state().fleet.to_string(), &"ab".repeat(32));
    victims.push(("FORMAT", share.join("FORMAT"), swapped.into_bytes()));
    victims
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_is_named_and_no_wrong_byte_is_written() {
    let fixture = Fixture::with_two_rounds().await;
    let (share, aside) = (fixture.share(), fixture.target("aside"));
    copy(&share, &aside);
    let seen = Pin { head: Some(fixture.log.seen()), ..fixture.pin() };
    let victims = victims(&share, &fixture);
    assert!(victims.len() >= 20, "{}", victims.len());
    let (mut lost_some, mut told_files) = (0, 0);
    for (case, (kind, victim, other)) in victims.iter().enumerate() {
        for action in ACTIONS {
            std::fs::remove_dir_all(&share).expect("removed");
            copy(&aside, &share);
            action.apply(victim, other);
            let context = format!("{action:?} {}", victim.display());
            // A record that is gone from the end leaves no trace but a memory of it.
            let pin = if (*kind, action) == ("log-last", Action::Delete) { seen } else { fixture.pin() };
            let object = victim.strip_prefix(&share).expect("below").to_str().expect("UTF-8");
            for with_keys in [false, true] {
                let report = checked(&fixture, pin, with_keys).await;
                let named: Vec<_> = report.damaged.iter().map(|d| d.damage.object.to_string()).collect();
                assert_eq!(named, [object], "{context}");
                let whole: Vec<_> = report.services.iter().filter(|s| s.whole).map(|s| &s.service).collect();
                assert!(*kind == "log-middle" || whole.contains(&&name("b")), "{context}: {whole:?}");
                assert_eq!(
                    victim.to_str().expect("UTF-8").contains("agents/a"),
                    whole.len() == 1,
                    "{context}"
                );
                let damage = &report.damaged[0];
                match action {
                    Action::Delete => assert_eq!(damage.damage.fault, Fault::Missing, "{context}"),
                    Action::Truncate if damage.damage.object.id().is_some() => {
                        assert!(matches!(damage.damage.fault, Fault::Length { .. }), "{context}");
                    }
                    Action::Flip | Action::Truncate | Action::Empty | Action::Swap => {}
                }
                told_files +=
                    usize::from(damage.files.is_some_and(|files| files > 0) && damage.first_path.is_some());
                assert_eq!(damage.rounds.is_empty(), damage.damage.object.id().is_none(), "{context}");
            }

            let into = fixture.target(&format!("into-{case}-{action:?}"));
            let result =
                run(&Request { from: Origin { pin, ..origin(&fixture) }, ..request(&fixture, into.clone()) })
                    .await;
            nothing_wrong(&into, 2);
            let b_is_whole = || {
                let found = found_below(&into).into_iter().filter(|(path, _)| path.starts_with("b/")).count();
                assert_eq!(found, expected(2).len() / 2, "{context}");
            };
            match result {
                Ok(outcome) => {
                    b_is_whole();
                    let all = found_below(&into).len() == expected(2).len();
                    assert_eq!(
                        all,
                        outcome.services.iter().all(|(_, s)| s.files > 0 && s.lost == 0),
                        "{context}"
                    );
                    assert!(all || !outcome.damaged.is_empty(), "{context}");
                    assert!(
                        outcome.damaged.is_empty() || outcome.damaged[0].object.to_string() == object,
                        "{context}"
                    );
                    lost_some +=
                        usize::from(outcome.services[0].1.lost > 0 && outcome.services[0].1.files > 0);
                    assert!(*kind != "FORMAT" || (all && outcome.damaged.len() == 1), "{context}");
                    assert!(!kind.starts_with("log"), "{context}");
                }
                Err(RecoverError::Round(RoundError::Damaged { damaged, newest_intact, .. })) => {
                    assert_eq!(damaged[0].object.to_string(), object, "{context}");
                    assert!(!into.exists(), "{context}");
                    assert!(matches!(*kind, "manifest" | "log-middle" | "log-last"), "{context}");
                    assert_eq!(newest_intact.is_none(), *kind == "log-middle", "{context}");
                }
                Err(error) => panic!("{context}: {error}"),
            }
        }
    }
    assert!(lost_some > 0, "no damage left a service with some of its files");
    assert!(told_files > 0, "no damage was told in files");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_round_that_is_named_instead_holds_what_is_wanted() {
    let mut fixture = Fixture::with_two_rounds().await;
    let tree = |content| vec![(name("a"), vec![("files", content)])];
    fixture.round(tree(Fixture::tree("a", 3)), &["b"]).await;
    fixture.services.get_mut(&name("a")).expect("a").misname = Misname::All;
    fixture.round(tree(vec![folder(""), file("bad", noise(2, 50_000))]), &["b"]).await;
    for (services, want) in [(Vec::new(), 2), (vec![name("a")], 3)] {
        let error = run(&Request { services, ..request(&fixture, fixture.target("into")) }).await;
        let Err(RecoverError::Round(RoundError::Damaged { number: Some(4), newest_intact, .. })) = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(newest_intact, Some(want));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_damaged_log_a_round_has_to_be_named() {
    let fixture = Fixture::with_two_rounds().await;
    let last = fixture.share().join(ObjectPath::LogRecord(fixture.log.head().number).to_string());
    Action::Empty.apply(&last, b"");
    let into = fixture.target("into");
    let base = request(&fixture, into.clone());
    let error = run(&base).await.expect_err("which is the newest?");
    assert!(
        matches!(
            error,
            RecoverError::Round(RoundError::Damaged { number: None, newest_intact: Some(2), .. })
        ),
        "{error}"
    );
    let outcome =
        run(&Request { from: Origin { round: RoundSelector::Number(2), ..base.from.clone() }, ..base })
            .await
            .expect("recovered");
    assert_eq!(outcome.damaged.len(), 1);
    assert_eq!(found_below(&into), expected(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_link_goes_with_its_file() {
    let fixture = Fixture::with_two_rounds().await;
    let report = checked(&fixture, fixture.pin(), true).await;
    assert!(report.is_whole());
    // Every pack of round 2 alone holds var/new or the entries; those of round 1 hold etc/big.
    let mut lost = 0;
    let packs = fixture.share().join("agents/a/packs");
    for shard in std::fs::read_dir(packs).expect("listed") {
        let pack = std::fs::read_dir(shard.expect("shard").path()).expect("listed").next();
        let pack = pack.expect("a pack").expect("a pack").path();
        let bytes = std::fs::read(&pack).expect("read");
        Action::Empty.apply(&pack, b"");
        let into = fixture.target(pack.file_stem().expect("name").to_str().expect("UTF-8"));
        if let Ok(outcome) = run(&request(&fixture, into.clone())).await {
            let files = found_below(&into.join("a/files"));
            let both =
                |a: &str, b: &str| assert_eq!(files.contains_key(a), files.contains_key(b), "{a}, {b}");
            both("etc/big", "etc/link");
            both("etc/big", "etc/twin");
            both("var/new", "var/new-link");
            let gone =
                u64::from(!files.contains_key("etc/big")) * 3 + u64::from(!files.contains_key("var/new")) * 2;
            let (_, a) = &outcome.services[0];
            assert!(a.files == 0 || a.lost >= gone, "{a:?}");
            lost += gone;
        }
        std::fs::write(&pack, bytes).expect("mended");
    }
    assert!(lost > 0);
}
