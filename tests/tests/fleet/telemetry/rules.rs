//! The rules that are shipped, judged by Prometheus' own tool; and the commands that they tell people to run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use muster_test_servers::promtool;
use muster_tests::process::muster;
use muster_tests::telemetry::{boards, deploy, rules};

/// What `promtool` says to this in a folder, and whether all is well.
fn ask(folder: &Path, args: &[&str]) -> (bool, String) {
    let done = promtool(folder, args);
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    (done.status.success(), said.into_owned())
}

#[test]
#[ignore = "needs promtool: ./x test --servers"]
fn servers_promtool_finds_every_rule_right() {
    let folder = deploy("prometheus");
    for args in [
        &["check", "rules", "recording.yml", "alerts.yml"][..],
        &["check", "config", "prometheus.yml"],
        &["test", "rules", "tests.yml", "tests-days.yml"],
    ] {
        let (well, said) = ask(&folder, args);
        assert!(well && !said.contains("FAILED"), "promtool {args:?}: {said}");
    }
}

/// The tests of the rules are tests: each notices when its alert never fires.
#[test]
#[ignore = "needs promtool: ./x test --servers"]
fn servers_promtool_notices_rules_that_never_fire() {
    let folder = tempfile::TempDir::new().expect("a folder");
    for file in ["recording.yml", "tests.yml", "tests-days.yml"] {
        fs::copy(deploy("prometheus").join(file), folder.path().join(file)).expect("copied");
    }
    let mut dead = String::from("groups:\n");
    let all = fs::read_to_string(deploy("prometheus").join("alerts.yml")).expect("rules");
    let groups = all.lines().filter_map(|line| line.strip_prefix("  - name: "));
    for group in groups {
        dead.push_str(&format!(
            "  - name: {group}\n    rules:\n      - alert: Dead\n        expr: vector(0) > 1\n"
        ));
    }
    fs::write(folder.path().join("alerts.yml"), dead).expect("written");
    let (well, said) = ask(folder.path(), &["test", "rules", "tests.yml", "tests-days.yml"]);
    assert!(!well, "nothing was noticed");
    let missed = rules("alerts.yml")
        .into_iter()
        .filter(|rule| !said.contains(&format!("alertname=\\\"{}\\\"", rule.name)));
    let missed: Vec<String> = missed.map(|rule| rule.name).collect();
    assert!(missed.is_empty(), "no test noticed that these never fire: {missed:?}\n{said}");
}

/// `muster …` in what people read of an alert or a panel is a command that there is.
#[test]
fn commands_that_rules_and_dashboards_name_exist() {
    let mut texts: Vec<String> = rules("alerts.yml").into_iter().map(|rule| rule.text).collect();
    texts.extend(boards().into_values().flat_map(|board| board.panels).map(|panel| panel.description));
    let mut commands = BTreeSet::new();
    for text in &texts {
        let quoted = text.split('`').skip(1).step_by(2);
        commands.extend(quoted.filter_map(|words| words.strip_prefix("muster ")).map(|words| {
            let words = words.replace("{{ $labels.muster_service }}", "web");
            words.replace("{{ $labels.muster_channel }}", "ops")
        }));
    }
    assert!(commands.len() > 10, "no commands were found: {commands:?}");
    for command in commands {
        let args = command.split_whitespace().chain(["--help"]);
        let said = muster(args);
        assert_eq!(said.code, 0, "muster {command}: {}{}", said.out, said.err);
    }
    assert_ne!(muster(["no-such-command", "--help"]).code, 0, "anything is a command");
    assert_ne!(muster(["start", "--no-such-flag", "--help"]).code, 0, "anything is a flag");
}
