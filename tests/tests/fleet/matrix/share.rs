//! The share vanishes, can only be read, or hangs in mid-round. FAULTS invariants 1, 2, 14, 16, 17.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use muster_test_servers::SeaweedFs;
use muster_tests::fleet::text;
use muster_tests::process::{Running, have, wait_for};
use muster_tests::proxy::{Mode, Proxy};

use super::scene::{FILES, GATED, Scene};
use crate::full::{Small, elsewhere};

/// A fleet in mid-round: one slice is stored, the other waits.
fn in_mid_round(mut scene: Scene) -> (Scene, Running) {
    scene.fleet.up();
    let starter = scene.begin();
    scene.gate.wait_for_capture();
    let slices = scene.fleet.share().join(format!("agents/{FILES}/slices"));
    wait_for("the other slice is stored", || fs::read_dir(&slices).ok()?.next().map(drop));
    (scene, starter)
}

/// Waits until an agent has told of this alert.
fn wait_until_it_says(scene: &Scene, service: &str, words: &str) {
    let log = scene.fleet.path(&format!("agent-{service}.log"));
    wait_for(&format!("{service} says {words}"), || {
        fs::read_to_string(&log).unwrap_or_default().contains(words).then_some(())
    });
}

#[test]
fn a_share_that_vanishes_in_mid_round_and_comes_back_costs_no_round() {
    let mut scene = Scene::gated();
    // The agent's own patience with the share is less than a minute; the round's is this.
    scene.fleet.set("MUSTER_ROUND_ATTEMPTS", "20");
    let (scene, _starter) = in_mid_round(scene);
    let (share, away) = (scene.fleet.share(), scene.fleet.path("share-away"));
    fs::rename(&share, &away).expect("it goes");
    scene.gate.open();
    wait_until_it_says(&scene, GATED, "SHARE-0");
    assert!(!share.exists(), "nobody made a share where none is");
    fs::rename(&away, &share).expect("it comes back");
    let round = scene.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    scene.is_sound();
}

#[test]
fn a_round_whose_share_stays_away_past_its_deadline_ends_once_it_is_back() {
    const DEADLINE: Duration = Duration::from_secs(6);
    let mut scene = Scene::gated();
    scene.fleet.set("MUSTER_ROUND_DEADLINE", &format!("{}s", DEADLINE.as_secs()));
    let (mut scene, starter) = in_mid_round(scene);
    drop(starter);
    let (share, away) = (scene.fleet.share(), scene.fleet.path("share-away"));
    fs::rename(&share, &away).expect("it goes");
    scene.gate.open();
    // The fault's length, not a wait for success.
    std::thread::sleep(DEADLINE + Duration::from_secs(1));
    fs::rename(&away, &share).expect("it comes back");
    let round = scene.fleet.wait_for_round(1, &["verified", "failed"]);
    assert_ne!(round["outcome"], "complete", "nothing of the gated service was stored in time");
    scene.fleet.set("MUSTER_ROUND_DEADLINE", "4h");
    scene.fleet.kill_coordinator();
    scene.fleet.start_coordinator();
    scene.round();
    assert_eq!(scene.fleet.wait_for_round(2, &["verified"])["outcome"], "complete");
}

#[test]
fn a_share_that_can_only_be_read_fails_the_slice_and_takes_the_next_round_when_it_can_be_written() {
    let test = "matrix::share::a_share_that_can_only_be_read_fails_the_slice_and_takes_the_next_round_when_it_can_be_written";
    if elsewhere(test) {
        return;
    }
    let folder = tempfile::TempDir::new().expect("folder");
    let small = Small::mount(&folder.path().join("small")).expect("it was possible a moment ago");
    let scene = Scene::gated_on(Some(&folder.path().join("small/share")));
    let (mut scene, starter) = in_mid_round(scene);
    wait_for("nobody writes just now", || small.remount("ro").then_some(()));
    scene.gate.open();
    wait_until_it_says(&scene, GATED, "Read-only file system");
    assert!(small.remount("rw"));
    // A share that refuses is no passing fault: that slice is given up, with the reason, and the others
    // count.
    let round = scene.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "partial");
    let show = scene.fleet.run(&["show", "1", "--json"]).with_code(0).json();
    let services = show["services"].as_array().expect("services");
    let slow = services.iter().find(|service| service["service"] == GATED).expect("it is named");
    assert!(slow["reason"].as_str().is_some_and(|reason| reason.contains("SHARE-0")), "{slow}");
    scene.round();
    assert_eq!(scene.fleet.wait_for_round(2, &["verified"])["outcome"], "complete");
    scene.is_sound();
    drop((starter, scene));
    drop(small);
}

#[test]
fn a_share_that_hangs_for_one_agent_delays_nobody_else_and_the_round_ends() {
    if !have("strace") {
        return;
    }
    let mut scene = Scene::gated();
    scene.fleet.set("MUSTER_ROUND_DEADLINE", "10s");
    let (mut scene, starter) = in_mid_round(scene);
    drop(starter);
    let agent = scene.fleet.agent(GATED).id().to_string();
    let log = scene.fleet.path("strace.log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=600000000"]);
    strace.args(["-p", &agent]).stdout(Stdio::null());
    let strace = Running::start(strace, &log);
    wait_for("strace is attached", || fs::read_to_string(&log).ok()?.contains("attached").then_some(()));
    scene.gate.open();
    let round = scene.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "partial", "invariants 16 and 17: {round}");
    let show = scene.fleet.run(&["show", "1", "--json"]).with_code(0).json();
    let services = show["services"].as_array().expect("services").clone();
    let state =
        |name: &str| services.iter().find(|s| s["service"] == name).expect("it is named")["state"].clone();
    assert_eq!((state(FILES), state(GATED)), ("stored".into(), "absent".into()));
    // Who is traced ends only when its tracer does.
    strace.kill();
    scene.fleet.kill_agent(GATED);
    scene.fleet.start_agent(GATED);
    scene.round();
    assert_eq!(scene.fleet.wait_for_round(2, &["verified"])["outcome"], "complete");
    let (share, kit) = (text(&scene.fleet.share()), text(&scene.fleet.kit()));
    let _ = scene.fleet.run(&["verify", "--share", &share, "--kit", &kit]).with_code(0);
    scene.is_sound();
}

/// Every connection of one agent to a real service stalls, as behind a lost router: nothing answers and nothing ends.
#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_an_agent_whose_connections_to_the_share_stall_delays_nobody_else() {
    let server = SeaweedFs::start();
    let at = |port: u16| format!("s3://backups/fleet?endpoint=http://localhost:{port}");
    let (proxy, direct) = (Proxy::to(server.port()), at(server.port()));
    let mut scene = Scene::gated_at(&direct, &SeaweedFs::credentials("admin"));
    scene.fleet.set("MUSTER_ROUND_DEADLINE", "20s");
    scene.fleet.start_nats();
    scene.fleet.start_coordinator();
    scene.fleet.set("MUSTER_SHARE_URL", &at(proxy.port));
    scene.fleet.start_agent(GATED);
    scene.fleet.set("MUSTER_SHARE_URL", &direct);
    scene.open();
    scene.gate.wait_for_capture();
    proxy.set(Mode::SILENT);
    scene.gate.open();
    // The other agent comes only now: all that it does, and all that the coordinator checks of it, meets the stall.
    scene.fleet.start_agent(FILES);
    let service = |scene: &Scene, name: &str| {
        let show = scene.fleet.run(&["show", "1", "--json"]).with_code(0).json();
        let services = show["services"].as_array().cloned().unwrap_or_default();
        services.into_iter().find(|service| service["service"] == name)
    };
    let round = scene.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "partial", "invariants 16 and 17: {round}");
    let (files, gated) = (service(&scene, FILES).expect("named"), service(&scene, GATED).expect("named"));
    assert_eq!((&files["state"], &gated["state"]), (&"stored".into(), &"absent".into()), "{files} {gated}");
    let reason = gated["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("ROUND-02"), "the deadline passed: {gated}");
    proxy.set(Mode::Pass);
    scene.round();
    assert_eq!(scene.fleet.wait_for_round(2, &["verified"])["outcome"], "complete");
    let (share, kit) = (text(&scene.fleet.share()), text(&scene.fleet.kit()));
    let credentials = text(&scene.fleet.path("share.credentials"));
    let verify = ["verify", "--share", &share, "--share-credentials", &credentials, "--kit", &kit];
    let _ = scene.fleet.run(&verify).with_code(0);
}
