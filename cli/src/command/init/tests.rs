//! `init` into temporary folders: what is made, and that bad input leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use muster_bus::UserKey;
use muster_protocol::config::BusConfig;
use muster_protocol::log::{Pin, Role};
use muster_share::log::Log;
use muster_share::{secret_file, store};
use tempfile::TempDir;

use super::run;
use crate::args::{Arguments, Command, Init};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::operator::Operator;

fn arguments(base: &Path, more: &[&str]) -> Init {
    let at = |name: &str| base.join(name).display().to_string();
    let mut words =
        vec!["muster".to_owned(), "init".to_owned(), at("fleet"), "--fleet".into(), "prod".into()];
    for (option, name) in [("--share", "share"), ("--kit", "kit")] {
        if !more.contains(&option) {
            words.extend([option.to_owned(), at(name)]);
        }
    }
    if !more.contains(&"--service") {
        words.extend(["--service".to_owned(), format!("etc=files:{}", at("data"))]);
    }
    words.extend(more.iter().map(|word| word.replace("BASE", &base.display().to_string())));
    let command = Arguments::try_parse_from(words).expect("a valid command line").command;
    let Command::Init(init) = command else { panic!("not init") };
    init
}

fn everything(base: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

fn base() -> TempDir {
    let base = tempfile::tempdir().expect("temporary folder");
    fs::create_dir(base.path().join("data")).expect("made");
    base
}

async fn refused(base: &Path, more: &[&str]) -> Failure {
    let before = everything(base);
    let failure = run(arguments(base, more)).await.expect_err("refused");
    assert_eq!(everything(base), before, "something was left behind after: {failure}");
    failure
}

/// What `[nats]` names is there, and the server knows the nkey.
fn signs_on(dir: &Path, nats: &BusConfig, url: &str) {
    assert!(nats.url == url && url.starts_with("tls://127.0.0.1:"), "{nats:?}");
    let ca = fs::read_to_string(&nats.ca).expect("the CA's certificate");
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
    let nkey = UserKey::read(&nats.nkey).expect("its seed").public();
    let accounts = fs::read_to_string(dir.join("nats-accounts.conf")).expect("the accounts");
    assert!(accounts.contains(&format!("nkey: {nkey},")), "{accounts}");
}

#[tokio::test]
async fn a_fleet_is_founded_with_everything_that_it_needs() {
    let base = base();
    let base = base.path();
    let escrow = muster_protocol::age::Identity::generate(&mut muster_share::entropy::OsEntropy)
        .recipient()
        .to_string();
    let more = [
        "--recipient",
        &escrow,
        "--coordinators",
        "2",
        "--service",
        "etc=files:/etc",
        "--service",
        "etc=files:/usr",
        "--service",
        "who=command:[\"id\"]",
    ];
    assert_eq!(run(arguments(base, &more)).await.expect("made"), Exit::Done);

    let dir = base.join("fleet");
    for name in [
        "nats-server.conf",
        "coordinator.toml",
        "coordinator-2.toml",
        "operator.toml",
        "agents/etc.toml",
        "lock",
    ] {
        assert!(dir.join(name).is_file(), "{name}");
    }
    for entry in fs::read_dir(dir.join("keys")).expect("keys") {
        let path = entry.expect("a key").path();
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        let public = path.extension().is_some_and(|ending| ending == "crt");
        assert_eq!(mode & 0o7777, if public { 0o644 } else { 0o600 }, "{}", path.display());
    }
    assert_eq!(fs::metadata(dir.join("keys")).expect("there").permissions().mode() & 0o7777, 0o700);
    let operator = Operator::load(&dir).expect("loads");
    for name in ["coordinator", "coordinator-2"] {
        let config =
            muster_coordinator::config::Config::load(&dir.join(format!("{name}.toml"))).expect("loads");
        signs_on(&dir, &config.nats, &operator.nats.url);
        secret_file::read_signing_key(&config.coordinator.key).expect("a key");
        assert!(config.coordinator.state.is_dir());
    }
    let agent = muster_agent::config::Config::load(&dir.join("agents/etc.toml")).expect("loads");
    signs_on(&dir, &agent.nats, &operator.nats.url);
    signs_on(&dir, &operator.nats, &operator.nats.url);
    let sources = agent.sources().expect("checked");
    assert_eq!(sources.iter().map(|source| source.name().as_str()).collect::<Vec<_>>(), ["files", "files-2"]);
    secret_file::read_identities(&agent.agent.sealing_key).expect("an identity");
    secret_file::read_hex_key(&agent.agent.chunk_key).expect("a chunk key");

    let kit = base.join("kit");
    let root = secret_file::read_public_key(&kit.join("root.pub")).expect("the root's key");
    assert_eq!(root, operator.fleet.root);
    assert_eq!(secret_file::read_signing_key(&base.join("kit-root/root.key")).expect("root").key_id(), root);
    let recovery =
        secret_file::read_identities(&kit.join("recovery.key")).expect("an identity")[0].recipient();
    let page = fs::read_to_string(kit.join("README.md")).expect("the page");
    assert!(page.contains(&recovery.to_string()) && !page.contains("AGE-SECRET-KEY"));
    assert!(page.contains("emergency.py --share SHARE --kit KIT --into DIR"), "{page}");
    let script = kit.join("emergency.py");
    assert_eq!(fs::metadata(&script).expect("there").permissions().mode() & 0o7777, 0o700);
    assert!(fs::read_to_string(script).expect("text").starts_with("#!/usr/bin/env python3\n"));
    assert_eq!(operator.reachable_keys(&dir).len(), 2);

    let page = fs::read_to_string(kit.join("kit.html")).expect("the page");
    assert!(page.contains(&root.to_string()) && !page.contains("AGE-SECRET-KEY"), "{page}");
    assert!(!kit.join("private-key.html").exists(), "nobody asked for it");

    let share = store::open(&operator.share).await.expect("opens");
    let pin = Pin { root: Some(root), fleet: Some(operator.fleet.id), head: None };
    let log = Log::open(share, pin).await.expect("a log");
    let state = log.state();
    assert!(page.contains(&state.head.to_string()), "the page names the head of the log");
    assert!(state.without_effect.is_empty() && state.void.is_empty());
    assert_eq!(state.recipients(), [recovery, escrow.parse().expect("a recipient")]);
    assert_eq!(state.services().iter().map(ToString::to_string).collect::<Vec<_>>(), ["etc", "who"]);
    assert_eq!(state.config.as_ref().expect("config").clear["schedule"], "off");
    let count =
        |role: &dyn Fn(&Role) -> bool| state.members.values().filter(|m| role(&m.member.role)).count();
    assert_eq!(count(&|role| matches!(role, Role::Coordinator)), 2);
    assert_eq!(count(&|role| matches!(role, Role::Admin)), 1);
    assert_eq!(count(&|role| matches!(role, Role::Pruner)), 1);

    let again = run(arguments(base, &[])).await.expect_err("not twice");
    assert!(again.to_string().contains("is not empty") && again.exit() == Exit::Usage, "{again}");
}

#[tokio::test]
async fn a_page_with_the_private_key_is_made_when_it_is_asked_for() {
    let base = base();
    let base = base.path();
    run(arguments(base, &["--print-private"])).await.expect("made");
    let page = base.join("kit/private-key.html");
    assert_eq!(fs::metadata(&page).expect("there").permissions().mode() & 0o7777, 0o600);
    let key = fs::read_to_string(base.join("kit/recovery.key")).expect("the key");
    let key = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("an identity");
    assert!(fs::read_to_string(&page).expect("the page").contains(key));
}

#[tokio::test]
async fn bad_input_leaves_nothing_behind() {
    let base = base();
    let base = base.path();
    fs::write(base.join("file"), "").expect("written");
    for (more, exit, part) in [
        (vec!["--service", "A=files:/x"], Exit::Usage, "service name \"A\""),
        (vec!["--service", "a=files:/x", "--service", "a=files:/x"], Exit::Usage, "reads the same"),
        (vec!["--service", "a=zfs:/x"], Exit::Usage, "no source kind"),
        (vec!["--kit", "BASE/fleet/kit"], Exit::Usage, "--kit (BASE/fleet/kit) lies within DIR"),
        (vec!["--kit", "BASE/share/kit"], Exit::Usage, "lies within --share"),
        (vec!["--kit", "BASE/file"], Exit::Usage, "cannot be used as a folder"),
        (vec!["--kit", "BASE/none/kit"], Exit::Usage, "→ mkdir -p BASE/none"),
        (vec!["--root", "BASE/kit/root"], Exit::Usage, "--root (BASE/kit/root) lies within --kit"),
        (vec!["--recipient", "age1nonsense"], Exit::Usage, "--recipient number 1"),
        (vec!["--share", "s3://bucket"], Exit::Unreachable, "SHARE-03"),
        (vec!["--share", "gs://bucket"], Exit::Usage, "not known"),
        (vec!["--share", "BASE/none/share"], Exit::Unreachable, "SHARE-01"),
        (vec!["--share", "BASE/file"], Exit::Usage, "SHARE-02"),
        (vec!["--share", "BASE/file/share"], Exit::Unreachable, "SHARE-01"),
    ] {
        let failure = refused(base, &more).await;
        let part = part.replace("BASE", &base.display().to_string());
        assert!(failure.to_string().contains(&part), "{more:?}: {failure}");
        assert_eq!(failure.exit(), exit, "{more:?}: {failure}");
    }
    let mut without_kit = arguments(base, &[]);
    without_kit.kit = None;
    let failure = run(without_kit).await.expect_err("refused");
    assert!(failure.to_string().starts_with("error: --kit is missing: where should"), "{failure}");
}

#[tokio::test]
async fn a_share_that_has_a_fleet_or_refuses_stays_as_it_is() {
    let first = base();
    run(arguments(first.path(), &[])).await.expect("made");
    let second = base();
    let share = first.path().join("share");
    let before = everything(&share);
    let failure = refused(second.path(), &["--share", &share.display().to_string()]).await;
    assert!(failure.to_string().contains("holds a fleet already"), "{failure}");
    assert_eq!(everything(&share), before);

    // A file where the log's folder should be: the first record fails after everything else was written.
    let third = base();
    let share = third.path().join("share");
    fs::create_dir(&share).expect("made");
    fs::write(share.join("log"), "").expect("written");
    refused(third.path(), &[]).await;
}

#[tokio::test]
async fn an_identity_given_as_recipient_is_not_repeated() {
    let base = base();
    let identity = muster_protocol::age::Identity::generate(&mut muster_share::entropy::OsEntropy);
    let text = identity.to_file_text("now");
    let secret = text.lines().last().expect("the identity");
    let failure = refused(base.path(), &["--recipient", secret]).await.to_string();
    assert!(!failure.contains(&secret[16..]) && failure.contains("--recipient number 1"), "{failure}");
}
