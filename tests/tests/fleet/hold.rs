//! Services that are quiesced while they are captured: the cut, and invariant 15: released whatever dies.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Running, Said, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// Services in a folder, each quiesced while `NAME.held` is there.
struct Services {
    folder: TempDir,
}

impl Services {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `NAME=command:…`, a source that tells whether its service is held.
    fn source(&self, name: &str) -> String {
        let script =
            format!("test -e '{}' && echo held || echo free", text(&self.path(&format!("{name}.held"))));
        format!("{name}=command:{}", serde_json::to_string(&["sh", "-c", &script]).expect("JSON"))
    }

    /// Gives the service of `fleet` hooks; `before` is a part of a script that runs before it is quiesced.
    fn hook(&self, fleet: &Fleet, name: &str, before: &str) {
        let folder = text(self.folder.path());
        let argv = |script: &str| {
            serde_json::to_string(&["sh", "-c", &format!("cd '{folder}' || exit 9; {script}")]).expect("JSON")
        };
        let quiesce = argv(&format!("{before} touch {name}.held; echo $PPID > {name}.watchdog"));
        let release = argv(&format!("rm -f {name}.held; echo x >> {name}.released"));
        let file = fleet.dir().join(format!("agents/{name}.toml"));
        let config = fs::read_to_string(&file).expect("a configuration");
        let hooked = config
            .replace("\nquiesce = []\n", &format!("\nquiesce = {quiesce}\n"))
            .replace("\nrelease = []\n", &format!("\nrelease = {release}\n"));
        assert_ne!(config, hooked, "init writes every key");
        fs::write(&file, hooked).expect("written");
    }

    fn is_held(&self, name: &str) -> bool {
        self.path(&format!("{name}.held")).exists()
    }

    fn releases(&self, name: &str) -> usize {
        fs::read_to_string(self.path(&format!("{name}.released"))).map_or(0, |text| text.lines().count())
    }

    fn wait_for_hold(&self, name: &str) {
        wait_for(&format!("{name} is held"), || self.is_held(name).then_some(()));
    }

    fn wait_for_release(&self, name: &str) {
        wait_for(&format!("{name} is released"), || (!self.is_held(name)).then_some(()));
    }
}

fn last_line(said: &Said) -> Value {
    let line = said.out.lines().last().expect("a line");
    serde_json::from_str(line).expect("JSON")
}

fn service<'a>(round: &'a Value, name: &str) -> &'a Value {
    let services = round["services"].as_array().expect("services");
    services.iter().find(|service| service["service"] == name).expect("the service is in the round")
}

fn recovered(fleet: &Fleet, into: &Path, name: &str) -> String {
    fs::read_to_string(into.join(name).join("command/output")).unwrap_or_else(|error| {
        panic!("{name} of {}: {error}", fleet.dir().display());
    })
}

#[test]
fn a_cut_over_three_services_has_its_account_in_the_manifest() {
    let services = Services::new();
    let names = ["files", "queue", "secrets"];
    let mut fleet = Fleet::init(&names.map(|name| services.source(name)));
    for name in names {
        services.hook(&fleet, name, if name == "queue" { "sleep 2;" } else { "" });
    }
    fleet.set("MUSTER_CUT_ENABLED", "true");
    fleet.up();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let round = fleet.run(&["show", "--json"]).with_code(0).json();
    let cut = &round["cut"];
    assert_eq!((&cut["members"], &cut["broken"]), (&serde_json::json!(names), &Value::Null), "{round}");
    assert_eq!(cut["outside"], serde_json::json!([]));
    assert!(cut["skew_millis"].as_u64().is_some_and(|skew| skew < 20_000), "{cut}");
    let shown = fleet.run(&["show"]).with_code(0).out;
    assert!(shown.contains("cut: 3 services within "), "{shown}");
    assert!(shown.contains("queue was quiesced last"), "it held up all others: {shown}");
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    for name in names {
        assert_eq!(recovered(&fleet, &out, name), "held\n", "{name}");
        assert_eq!((services.is_held(name), services.releases(name)), (false, 1), "{name}");
    }
}

/// Two services, `late` held up until the file `go` is there, in a round with a cut whose `early` is held.
fn early_holds(services: &Services) -> (Fleet, Running) {
    let mut fleet = Fleet::init(&[services.source("early"), services.source("late")]);
    services.hook(&fleet, "early", "");
    services.hook(&fleet, "late", "while [ ! -e go ]; do sleep 0.02; done;");
    fleet.set("MUSTER_CUT_ENABLED", "true");
    fleet.up();
    let start = fleet.spawn(&["start", "--wait", "--json"], "start.log");
    services.wait_for_hold("early");
    (fleet, start)
}

fn both_were_held(services: &Services, fleet: &Fleet) {
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    for name in ["early", "late"] {
        assert_eq!(recovered(fleet, &out, name), "held\n", "{name}");
        services.wait_for_release(name);
    }
    assert!(services.releases("early") >= 2, "the watchdog's, and those of the new agent");
}

#[test]
fn an_agent_that_is_killed_while_it_holds_breaks_the_cut_and_keeps_no_service() {
    let services = Services::new();
    let (mut fleet, mut start) = early_holds(&services);
    fleet.kill_agent("early");
    // Long before its limit, and without any help of an agent, coordinator or server.
    services.wait_for_release("early");
    fs::write(services.path("go"), b"").expect("written");
    wait_for("the other slice counts", || fleet.run(&["status"]).out.contains("1 of 2").then_some(()));
    fleet.start_agent("early");
    assert_eq!(start.wait().code(), Some(0), "each slice counts by itself");
    let round = fleet.run(&["show", "--json"]).with_code(0).json();
    assert!(round["cut"]["broken"].as_str().is_some_and(|why| why.contains("early")), "{round}");
    let shown = fleet.run(&["show"]).with_code(0).out;
    assert!(shown.contains("ROUND-05"), "{shown}");
    both_were_held(&services, &fleet);
}

#[test]
fn an_agent_that_comes_back_before_the_announcement_holds_again_and_has_its_place() {
    let services = Services::new();
    let (mut fleet, mut start) = early_holds(&services);
    fleet.kill_agent("early");
    services.wait_for_release("early");
    fleet.start_agent("early");
    services.wait_for_hold("early");
    fs::write(services.path("go"), b"").expect("written");
    assert_eq!(start.wait().code(), Some(0));
    let round = fleet.run(&["show", "--json"]).with_code(0).json();
    assert_eq!(round["cut"]["members"], serde_json::json!(["early", "late"]), "{round}");
    both_were_held(&services, &fleet);
}

/// Invariant 17.
#[test]
fn a_hook_that_hangs_is_killed_and_delays_nobody() {
    let services = Services::new();
    let mut fleet = Fleet::init(&[services.source("quick"), services.source("stuck")]);
    services.hook(&fleet, "stuck", "touch stuck.held hanging; sleep 600;");
    fleet.set("MUSTER_HOOKS_TIMEOUT", "6s");
    let _ = fleet.run(&["config", "set", "service.stuck", "attempts=1"]).with_code(0);
    fleet.up();
    let mut start = fleet.spawn(&["start", "--wait", "--json"], "start.log");
    wait_for("the hook hangs", || services.path("hanging").exists().then_some(()));
    wait_for("the quick slice counts", || fleet.run(&["status"]).out.contains("1 of 2").then_some(()));
    assert!(services.is_held("stuck"), "meanwhile the hook still hangs");
    assert_eq!(start.wait().code(), Some(3));
    let told = fs::read_to_string(fleet.path("start.log")).expect("what start said");
    assert!(told.contains(r#""service":"stuck","state":"holding""#), "{told}");
    assert!(!services.is_held("stuck"));
    let round = fleet.run(&["show", "--json"]).with_code(0).json();
    assert_eq!(service(&round, "quick")["state"], "stored");
    let stuck = service(&round, "stuck");
    let reason = stuck["reason"].as_str().expect("a reason");
    assert!(reason.contains("the quiesce hook \"sh\" did not end within 6.0 s and was killed"), "{reason}");
    assert_eq!(stuck["tries"][0]["code"], "AGENT-03", "{stuck}");
}

#[test]
fn a_round_in_one_process_holds_its_services_too() {
    let services = Services::new();
    let fleet = Fleet::init(&[services.source("app")]);
    services.hook(&fleet, "app", "");
    let said = fleet.run(&["once", &text(&fleet.dir()), "--json"]).with_code(0);
    assert_eq!(service(&last_line(&said), "app")["state"], "stored");
    assert_eq!((services.is_held("app"), services.releases("app")), (false, 1));
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    assert_eq!(recovered(&fleet, &out, "app"), "held\n");

    // Killed while it holds.
    let file = fleet.dir().join("agents/app.toml");
    let config = fs::read_to_string(&file).expect("a configuration");
    fs::write(&file, config.replace("touch app.held;", "touch app.held; sleep 600;")).expect("written");
    let once = fleet.spawn(&["once", &text(&fleet.dir())], "once.log");
    services.wait_for_hold("app");
    once.kill();
    services.wait_for_release("app");
}
