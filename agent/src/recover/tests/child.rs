//! Recoveries in a process of their own: to be measured, killed, or run by somebody else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::age::Identity;
use muster_protocol::config::ShareConfig;
use muster_protocol::log::Pin;
use muster_share::store::faults::{Call, Fault, Faulty};
use muster_share::store::{self, Store};
use muster_share::verify::RoundSelector;

use super::super::fixture::{Fixture, file, folder, found_below, name, noise};
use super::super::{Existing, Origin, Request};
use super::{request, run};

const SHARE: &str = "MUSTER_TEST_SHARE";
const KEY: &str = "MUSTER_TEST_KEY";
const INTO: &str = "MUSTER_TEST_INTO";
const DELAY_MILLIS: &str = "MUSTER_TEST_DELAY_MILLIS";

/// This test program with one ignored test of it.
pub(super) fn program(exe: &Path, test: &str) -> Command {
    let mut command = Command::new(exe);
    command.args(["--exact", test, "--ignored", "--test-threads", "1", "--quiet"]);
    command.stdout(std::process::Stdio::null());
    command
}

/// A recovery of a fixture's newest round, each pack delayed.
pub(super) fn recovery(fixture: &Fixture, into: &Path, delay: Duration) -> Command {
    let exe = std::env::current_exe().expect("a test program");
    let mut command = program(&exe, "recover::tests::child::recovers");
    command.env(SHARE, fixture.share()).env(INTO, into);
    command.env(KEY, fixture.key.to_file_text("now").as_str());
    command.env(DELAY_MILLIS, delay.as_millis().to_string());
    command
}

/// Most memory that a child's recovery took, in KiB (proc(5), `VmHWM`).
pub(super) fn peak_kib(into: &Path) -> u64 {
    std::fs::read_to_string(peak_file(into)).expect("it ended well").trim().parse().expect("a number")
}

fn peak_file(into: &Path) -> PathBuf {
    into.with_extension("peak")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it in a process of its own"]
async fn recovers() {
    let Some(share) = std::env::var_os(SHARE) else { return };
    let text = |name| std::env::var(name).expect("the parent sets it");
    let into = PathBuf::from(text(INTO));
    let delay = Duration::from_millis(text(DELAY_MILLIS).parse().expect("a number"));
    let inner = store::open(&ShareConfig::at(share.to_string_lossy())).await.expect("a share");
    let slow = move |call: &Call<'_>| {
        if call.path.contains("/packs/") { Fault::Delay(delay) } else { Fault::None }
    };
    let store: Arc<dyn Store> = if delay.is_zero() { inner } else { Arc::new(Faulty::new(inner, slow)) };
    let request = Request {
        from: Origin {
            store,
            pin: Pin::default(),
            keys: Arc::new(Identity::parse_file(&text(KEY)).expect("a key")),
            round: RoundSelector::Latest,
        },
        services: Vec::new(),
        path: None,
        into: into.clone(),
        existing: Existing::Refuse,
        resume: false,
        numeric_owner: false,
        apart_from: Vec::new(),
        workers: 2,
    };
    let outcome = run(&request).await.expect("recovered");
    assert!(outcome.damaged.is_empty(), "{:?}", outcome.damaged);
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    std::fs::write(peak_file(&into), peak.trim().trim_end_matches("kB")).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_recovery_goes_on() {
    let mut fixture = Fixture::new().await;
    let mut items = vec![folder(""), folder("d")];
    items.extend((0..60).map(|n| file(&format!("d/f{n:02}"), noise(n + 1, 20_000))));
    items.push(file("e", noise(99, 300_000)));
    fixture.round(vec![(name("a"), vec![("files", items)])], &["b"]).await;
    let whole = Request { into: fixture.target("whole"), ..request(&fixture, fixture.target("into")) };
    run(&whole).await.expect("recovered");

    let into = fixture.target("into");
    let mut child = recovery(&fixture, &into, Duration::from_millis(100)).spawn().expect("starts");
    let finished = || found_below(&into).keys().filter(|path| path.starts_with("a/files/d/f")).count();
    while finished() == 0 {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it was killed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(finished() < 60, "it was too fast to be killed");
    for (path, bytes) in found_below(&into).iter().filter(|(path, _)| path.starts_with("a/files/d/f")) {
        assert_eq!(bytes, &found_below(&whole.into)[path], "what has its name is whole");
    }
    let outcome = run(&Request { resume: true, ..request(&fixture, into.clone()) }).await.expect("goes on");
    assert!(outcome.services[0].1.kept > 0);
    assert_eq!(found_below(&into), found_below(&whole.into), "and nothing temporary is left");
}
