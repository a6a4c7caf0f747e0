//! What watches a fleet, as far as its files tell: every rule has a test that sees it fire and clear, says what to do next, and
//! names a page that is there; dashboards are whole, and name no alert that there is not.

use std::collections::BTreeSet;
use std::fs;

use muster_protocol::alert::Code;
use muster_telemetry::metrics::{TABLE, prometheus_name};
use muster_tests::telemetry::{Board, Grid, Rule, Variables, boards, deploy, known_names, named_in, rules};

use super::{assert_none, root};

#[test]
fn every_rule_has_a_test() {
    let tests: String = ["tests.yml", "tests-days.yml"]
        .map(|file| fs::read_to_string(deploy("prometheus").join(file)).expect("tests of rules"))
        .concat();
    let (alerts, records) = (rules("alerts.yml"), rules("recording.yml"));
    assert!(alerts.len() > 20 && records.len() > 5, "the rules were not found");
    assert_none(&untested(&[alerts, records].concat(), &tests));

    let rule = |name: &str, alert| Rule { name: name.to_owned(), alert, text: String::new() };
    let seen = "- expr: ALERTS{alertname=\"A\", alertstate=\"firing\"}\n  exp_samples:\n    - { labels: 'ALERTS{alertname=\"A\"}', value: 1 }\n";
    let gone = "- expr: ALERTS{alertname=\"A\", alertstate=\"firing\"}\n  eval_time: 1m\n  exp_samples: []\n";
    assert_none(&untested(&[rule("A", true)], &format!("{seen}{gone}")));
    for lacking in [seen, gone, ""] {
        assert_eq!(untested(&[rule("A", true)], lacking).len(), 1, "{lacking}");
    }
    assert_none(&untested(&[rule("a:b:c", false)], "- expr: round(a:b:c)\n"));
    assert_eq!(untested(&[rule("a:b:c", false)], "- expr: a:b:d\n").len(), 1);
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let mut names = BTreeSet::new();
    for rule in rules("alerts.yml") {
        assert!(names.insert(rule.name.clone()), "{} is there twice", rule.name);
        assert_none(&unclear(&rule));
    }
    let whole = "labels: { severity: error, code: SHARE-01 }\nsummary: It is so.\ndescription: Bad. Next step, `muster status`.\nrunbook: docs/alerts.md#codes\n";
    let rule = |text: &str| Rule { name: "A".to_owned(), alert: true, text: text.to_owned() };
    assert_none(&unclear(&rule(whole)));
    for (is, would_be) in [
        ("severity: error", "severity: bad"),
        ("severity: error", "severity: warning"),
        ("SHARE-01", "SHARE-99"),
        ("summary: It is so.\n", ""),
        ("Next step, `muster status`.", "Woe."),
        ("docs/alerts.md#codes", "docs/dreams.md"),
        ("#codes", "#dreams"),
    ] {
        assert_eq!(unclear(&rule(&whole.replace(is, would_be))).len(), 1, "{would_be}");
    }
}

#[test]
fn dashboards_are_whole() {
    let all = boards();
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(names, ["coordinator", "fleet", "round", "service", "share"]);
    let ids: BTreeSet<&str> = all.values().map(|board| board.uid.as_str()).collect();
    assert_eq!(ids.len(), all.len(), "two dashboards have one id");
    for (name, board) in &all {
        assert_none(&broken(name, board));
    }
    let mut board = all.get("fleet").expect("a dashboard").clone();
    board.panels[1].grid_pos = board.panels[0].grid_pos;
    board.panels[2].id = board.panels[3].id;
    board.panels[4].description = String::new();
    board.panels[5].targets[0].expr = "up{a=~\"$nobody\"}".to_owned();
    assert_eq!(broken("fleet", &board).len(), 4, "{:?}", broken("fleet", &board));
}

#[test]
fn dashboards_name_the_alerts_that_there_are() {
    let names: BTreeSet<String> = rules("alerts.yml").into_iter().map(|rule| rule.name).collect();
    let mut named = BTreeSet::new();
    for panel in boards().into_values().flat_map(|board| board.panels) {
        let words = panel.description.split(|c: char| !c.is_ascii_alphanumeric());
        named.extend(words.filter(|word| word.len() > 8 && word.starts_with("Muster")).map(str::to_owned));
    }
    assert!(named.len() > 10, "no names were found: {named:?}");
    let unknown: Vec<&String> = named.difference(&names).collect();
    assert!(unknown.is_empty(), "dashboards name alerts that are none: {unknown:?}");
}

#[test]
fn rules_and_dashboards_name_metrics_that_there_are_and_watch_all_of_them() {
    let recorded: BTreeSet<String> = rules("recording.yml").into_iter().map(|rule| rule.name).collect();
    let known: BTreeSet<String> = known_names().union(&recorded).cloned().collect();
    let mut expressions: Vec<String> = Vec::new();
    for rule in [rules("alerts.yml"), rules("recording.yml")].concat() {
        let expression = rule.expression();
        assert!(
            !named_in(&expression).is_empty() || expression.contains("up{"),
            "{}: no expression",
            rule.name
        );
        expressions.push(expression);
    }
    let panels = boards().into_values().flat_map(|board| board.panels);
    let variables = Variables { rate_interval: "1m".to_owned() };
    expressions.extend(panels.flat_map(|panel| panel.targets).map(|query| query.ready(&variables)));
    let mut named = BTreeSet::new();
    for expression in &expressions {
        let words = named_in(expression);
        let unknown: Vec<&String> = words.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?} is no metric: {expression}");
        named.extend(words);
    }
    let unwatched = TABLE.iter().filter(|metric| {
        let name = prometheus_name(metric);
        !named
            .iter()
            .any(|word| *word == name || word.strip_prefix(&name).is_some_and(|end| end.starts_with('_')))
    });
    let unwatched: Vec<&str> = unwatched.map(|metric| metric.name).collect();
    assert!(unwatched.is_empty(), "no dashboard and no rule has {unwatched:?}");
    assert_eq!(
        named_in("rate(muster_a{b=\"muster_c\"}[1m]) + process_d"),
        BTreeSet::from(["muster_a".to_owned(), "process_d".to_owned()])
    );
}

/// Rules that no test names; alerts that no test has seen fire, or clear.
fn untested(rules: &[Rule], tests: &str) -> Vec<String> {
    let lines: Vec<&str> = tests.lines().map(str::trim).collect();
    let mut objections = Vec::new();
    for rule in rules {
        let name = &rule.name;
        let asks = |line: &str| {
            let words = line.strip_prefix("- expr:").unwrap_or_default();
            let mut words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            words.any(|word| word == name)
        };
        let clears = lines.split(|line| line.starts_with("- expr:")).skip(1);
        let asked: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("- expr:")).collect();
        let mut results = asked.iter().zip(clears).filter(|(line, _)| asks(line)).map(|(_, result)| result);
        let sees = |result: &[&str]| result.iter().any(|line| line.starts_with("- { labels:"));
        let (mut fired, mut cleared) = (false, false);
        let found = results.by_ref().inspect(|result| {
            fired |= sees(result);
            cleared |= result.contains(&"exp_samples: []");
        });
        let found = found.count();
        if rule.alert && !(fired && cleared) {
            objections.push(format!("{name}: no test sees it both fire and clear"));
        }
        if !rule.alert && found == 0 {
            objections.push(format!("{name}: no test asks for it"));
        }
    }
    objections
}

fn unclear(rule: &Rule) -> Vec<String> {
    let mut objections = Vec::new();
    let mut need = |holds: bool, what: &str| {
        if !holds {
            objections.push(format!("{}: {what}", rule.name));
        }
    };
    let labels = rule.value("labels").unwrap_or_default();
    let label = |key: &str| {
        let after = labels.split_once(&format!("{key}: "))?.1;
        Some(after.trim_start_matches('"').split([',', ' ', '"']).next().unwrap_or_default().to_owned())
    };
    let severity = label("severity").unwrap_or_default();
    let is_known = ["critical", "error", "warning"].contains(&severity.as_str());
    need(is_known, "no severity");
    // Either one of ours, or that of the alert itself.
    let code =
        label("code").is_none_or(|code| code == "{{" || Code::ALL.iter().any(|known| known.as_str() == code));
    need(code, "a code that is none");
    let named = label("code").and_then(|code| Code::ALL.iter().find(|known| known.as_str() == code));
    let as_bad = |code: &Code| code.severity().as_str() == severity;
    need(!is_known || named.is_none_or(as_bad), "not as bad as its code");
    need(rule.value("summary").is_some_and(|text| text.len() > 5), "no summary");
    need(rule.value("description").is_some_and(|text| text.contains("Next step")), "no next step");
    let runbook = rule.value("runbook").unwrap_or_default();
    let (page, part) = runbook.split_once('#').unwrap_or((runbook, ""));
    let text = fs::read_to_string(root().join(page)).unwrap_or_default();
    let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    let there = text.lines().any(|line| line.starts_with('#') && anchor(line) == part);
    need(there, &format!("no such place: {runbook}"));
    objections
}

fn broken(name: &str, board: &Board) -> Vec<String> {
    let mut objections = Vec::new();
    let mut need = |holds: bool, what: String| {
        if !holds {
            objections.push(format!("{name}: {what}"));
        }
    };
    need(board.schema_version >= 38, "older than Grafana 10".to_owned());
    need(!board.description.is_empty(), "does not say what it is for".to_owned());
    let variables: BTreeSet<&str> = board.templating.list.iter().map(|each| each.name.as_str()).collect();
    need(variables.contains("datasource"), "is bound to one Prometheus".to_owned());
    let ids: BTreeSet<u64> = board.panels.iter().map(|panel| panel.id).collect();
    need(ids.len() == board.panels.len(), "two panels have one id".to_owned());
    for (at, panel) in board.panels.iter().enumerate() {
        let title = &panel.title;
        need(!title.is_empty(), format!("panel {} has no title", panel.id));
        need(panel.description.len() > 10, format!("{title}: no description"));
        need(!panel.unit().is_empty(), format!("{title}: no unit"));
        need(!panel.targets.is_empty(), format!("{title}: asks nothing"));
        need(panel.grid_pos.x + panel.grid_pos.w <= 24, format!("{title}: wider than the page"));
        for other in &board.panels[at + 1..] {
            need(!overlap(panel.grid_pos, other.grid_pos), format!("{title} lies over {}", other.title));
        }
        for query in &panel.targets {
            let sources = [&panel.datasource.uid, &query.datasource.uid];
            need(sources.iter().all(|uid| *uid == "${datasource}"), format!("{title}: a fixed datasource"));
            need(!query.legend_format.is_empty(), format!("{title}: no legend"));
            let ready = query.ready(&Variables { rate_interval: "1m".to_owned() });
            need(!ready.contains('$'), format!("{title}: a variable that is none in {ready}"));
            let used = ["fleet", "service", "instance"]
                .into_iter()
                .filter(|name| query.expr.contains(&format!("${name}")));
            for used in used {
                need(variables.contains(used), format!("{title}: {used} is not declared"));
            }
        }
    }
    objections
}

fn overlap(one: Grid, other: Grid) -> bool {
    let apart = one.x + one.w <= other.x
        || other.x + other.w <= one.x
        || one.y + one.h <= other.y
        || other.y + other.h <= one.y;
    !apart
}
