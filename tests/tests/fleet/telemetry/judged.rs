//! The alert rules on a real fleet: each that can be caused within seconds fires and clears. In the copy of the rules that runs here
//! nothing waits, and hours are seconds.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use muster_test_servers::Rotel;
use muster_tests::hook::{Answer, Hook};
use muster_tests::process::wait_for;
use muster_tests::telemetry::{Prom, Sink, deploy, rules};

use super::scene::Scene;

/// Rules that `promtool` alone has seen, and why.
const NOT_HERE: [(&str, &str); 11] = [
    ("MusterRoundStuck", "every round ends by its deadline: nothing that Muster does leaves one open"),
    ("MusterTwoLeaders", "the log on the share lets no second one lead"),
    ("MusterLeadChangesOften", "takes minutes: after each change there is no other for a while"),
    ("MusterNatsUnsteady", "takes minutes: connections are made again ever more slowly"),
    ("MusterSlowConsumer", "needs more messages than a small fleet has"),
    ("MusterMessagesRefused", "what is refused is counted in the tests of bad input"),
    ("MusterCommandRefused", "what is refused is counted in the tests of bad input"),
    ("MusterShareFillsUp", "needs a share that is nearly full, or days of looks at it"),
    ("MusterShareNoRoom", "needs a share that is nearly full, looked at once an hour"),
    ("MusterSelfCheckFailed", "needs memory that changes bytes"),
    ("MusterMemoryHigh", "no process of ours takes that much"),
];

/// And those that need what this scene does not have.
const ELSEWHERE: [(&str, &str); 2] = [
    (
        "MusterShareFailing",
        "needs a share that fails one time in twenty: the faults of stores are injected in their own tests",
    ),
    ("MusterScrubOverdue", "45 days"),
];

struct Judged {
    scene: Scene,
    prom: Prom,
    fired: BTreeSet<String>,
    cleared: BTreeSet<String>,
}

impl Judged {
    fn fires(&mut self, names: &[&str]) {
        for name in names {
            wait_for(&format!("{name} fires"), || self.prom.fires(name).then_some(()));
            self.fired.insert((*name).to_owned());
        }
        for alert in self.prom.alerts() {
            for text in alert.annotations.values() {
                assert!(
                    !text.contains("<no value>") && !text.contains("{{") && !text.contains("<error"),
                    "{alert:?}"
                );
            }
        }
    }

    /// Rounds that fail, until each of these was seen: what looks back counts no more than the last few, however many of them a
    /// machine makes in that time.
    fn fire_by_rounds(&mut self, names: &[&str]) {
        const LONGEST: Duration = Duration::from_secs(120);
        let began = Instant::now();
        while began.elapsed() < LONGEST {
            self.scene.round(3);
            let firing = self.prom.alerts().into_iter().filter(|alert| alert.state == "firing");
            self.fired.extend(firing.map(|alert| alert.name));
            if names.iter().all(|name| self.fired.contains(*name)) {
                return;
            }
        }
        let missing: Vec<_> = names.iter().filter(|name| !self.fired.contains(**name)).collect();
        panic!("rounds failed for {LONGEST:?}, and these do not fire: {missing:?}");
    }

    /// Rounds that work, until none of these fires: a round of a busy machine may itself be told of as unusually slow.
    fn clear_by_rounds(&mut self, names: &[&str]) {
        const LONGEST: Duration = Duration::from_secs(120);
        let began = Instant::now();
        loop {
            self.scene.round(0);
            let firing: Vec<_> = names.iter().filter(|name| self.prom.fires(name)).collect();
            if firing.is_empty() {
                break;
            }
            assert!(
                began.elapsed() < LONGEST,
                "rounds worked for {LONGEST:?}, and these fire: {firing:?}; of Muster's own: {}",
                self.scene.fleet().run(&["alerts"]).out
            );
        }
        self.cleared.extend(names.iter().map(|name| (*name).to_owned()));
    }

    fn clears(&mut self, names: &[&str]) {
        for name in names {
            wait_for(&format!("{name} clears"), || (!self.prom.fires(name)).then_some(()));
            self.cleared.insert((*name).to_owned());
        }
    }
}

#[test]
#[ignore = "needs rotel and Prometheus: ./x test --servers"]
fn servers_telemetry_alert_rules_fire_and_clear_on_a_fleet() {
    let sink = Sink::start();
    let mut rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let people = Hook::start();
    let mut scene = Scene::new(1, Some(&rotel.url()));
    scene.channel(&people.url("/ops"));
    let (_server, prom) = scene.wired.prometheus(true);
    scene.up();
    let mut judged = Judged { scene, prom, fired: BTreeSet::new(), cleared: BTreeSet::new() };

    // Before the first round, of a fleet that nobody has enabled.
    judged.fires(&["MusterServiceNeverStored", "MusterScheduleDisabled"]);
    // Nothing was promised for so early.
    assert!(!judged.prom.fires("MusterNoVerifiedRound") && !judged.prom.fires("MusterPromiseUnmet"));
    judged.scene.round(0);
    judged.clears(&["MusterServiceNeverStored"]);
    let _ = judged.scene.fleet().run(&["enable"]).with_code(0);
    judged.clears(&["MusterScheduleDisabled"]);

    // A source that fails, again and again.
    people.answers([], Answer::Status(503));
    judged.scene.break_flaky(1_000);
    judged.fire_by_rounds(&[
        "MusterRoundFailed",
        "MusterCapturesFailing",
        "MusterRetriesHigh",
        "MusterAlertError",
        "MusterAlertWarning",
        "MusterNotificationsFailing",
    ]);
    people.answers([], Answer::Status(200));
    judged.scene.break_flaky(0);
    judged.clear_by_rounds(&[
        "MusterRoundFailed",
        "MusterCapturesFailing",
        "MusterRetriesHigh",
        "MusterAlertError",
        "MusterAlertWarning",
        "MusterNotificationsFailing",
    ]);

    // An object that is not what it was.
    let pack = judged.scene.pack("config");
    let mut bytes = fs::read(&pack).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).expect("written");
    let _ = judged.scene.fleet().run(&["verify", "--heal"]).with_code(4);
    judged.fires(&["MusterQuarantine", "MusterAlertCritical"]);
    judged.scene.round(0);
    judged.clears(&["MusterQuarantine", "MusterAlertCritical"]);

    // Members go and come back.
    judged.scene.fleet().kill_agent("config");
    judged.fires(&["MusterAgentDown", "MusterAgentsMissing"]);
    judged.scene.fleet().start_agent("config");
    judged.clears(&["MusterAgentDown", "MusterAgentsMissing"]);
    judged.scene.fleet().nats.as_mut().expect("a server").kill();
    judged.fires(&["MusterNatsDisconnected"]);
    judged.scene.fleet().nats.as_mut().expect("a server").restart();
    judged.clears(&["MusterNatsDisconnected"]);
    judged.scene.fleet().kill_coordinator();
    judged.fires(&["MusterCoordinatorDown", "MusterNoLeader"]);
    judged.scene.fleet().start_coordinator();
    judged.clears(&["MusterCoordinatorDown", "MusterNoLeader"]);
    // That another life of it led before is an event, which somebody has to know of.
    rotel.kill();
    judged.fires(&["MusterTelemetryDropped"]);
    rotel.restart();
    judged.clears(&["MusterTelemetryDropped"]);
    let _ = judged.scene.fleet().run(&["disable", "--reason", "a test"]).with_code(0);
    judged.fires(&["MusterScheduleDisabled"]);
    let _ = judged.scene.fleet().run(&["enable"]).with_code(0);
    judged.clears(&["MusterScheduleDisabled"]);

    // A minute is promised, and over.
    let _ = judged.scene.fleet().run(&["config", "set", "interval", "1m"]).with_code(0);
    judged.fires(&["MusterNoVerifiedRound", "MusterPromiseUnmet"]);
    judged.scene.round(0);
    judged.clears(&["MusterNoVerifiedRound", "MusterPromiseUnmet"]);

    let known: BTreeSet<String> = rules("alerts.yml").into_iter().map(|rule| rule.name).collect();
    let excused: BTreeSet<String> =
        NOT_HERE.iter().chain(&ELSEWHERE).map(|(name, _)| (*name).to_owned()).collect();
    let seen: BTreeSet<String> = judged.fired.intersection(&judged.cleared).cloned().collect();
    let neither: Vec<_> =
        known.iter().filter(|name| !seen.contains(*name) && !excused.contains(*name)).collect();
    assert!(neither.is_empty(), "these were neither seen nor excused: {neither:?}");
    let both: Vec<_> = excused.intersection(&seen).collect();
    assert!(both.is_empty(), "these are excused, and were seen: {both:?}");
}
