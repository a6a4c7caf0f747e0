//! Every metric of the table, in a real Prometheus and behind a real collector; every expression of the dashboards.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use muster_telemetry::metrics::{By, Kind, Metric, TABLE, prometheus_name};
use muster_test_servers::Rotel;
use muster_tests::dashboards::answers;
use muster_tests::hook::{Answer, Hook};
use muster_tests::picture::Window;
use muster_tests::telemetry::{Prom, Series, Sink, Variables, boards, deploy};

use super::scene::Scene;

/// What a fleet of some minutes need not tell, and why.
const NOT_HERE: [(&str, &str); 1] =
    [("muster.share.forecast", "a share that does for ten years of such rounds has none")];

/// Everything that has a figure happens once.
fn eventful(scene: &mut Scene, people: &Hook) {
    scene.channel(&people.url("/ops"));
    scene.fleet().set("MUSTER_CUT_ENABLED", "true");
    scene.break_flaky(1);
    scene.up();
    scene.round(0);
    let settings = ["config", "set", "schedule", "every 1h", "scrub.within", "1m"];
    let _ = scene.fleet().run(&settings).with_code(0);
    let _ = scene.fleet().run(&["enable"]).with_code(0);
    scene.change(1);
    scene.round(0);
    // Whose alerts stay open.
    scene.change(2);
    scene.break_flaky(3);
    scene.round(3);
}

/// Waits until nothing is lacking; a whole pass of the scrub takes a minute.
fn until_empty(what: &str, mut lacking: impl FnMut() -> BTreeSet<String>) {
    const LONGEST: Duration = Duration::from_secs(150);
    let began = Instant::now();
    loop {
        let lacks = lacking();
        if lacks.is_empty() {
            return;
        }
        assert!(began.elapsed() < LONGEST, "{what} {lacks:?}");
        sleep(Duration::from_millis(100));
    }
}

fn has(prom: &Prom, name: &str) -> bool {
    prom.now(name).is_ok_and(|series| !series.is_empty())
}

#[test]
#[ignore = "needs rotel and Prometheus: ./x test --servers"]
fn servers_telemetry_every_metric_of_the_table_arrives_by_both_ways() {
    let sink = Sink::start();
    let rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let people = Hook::start();
    people.answers([Answer::Status(503)], Answer::Status(200));
    let mut scene = Scene::new(2, Some(&rotel.url()));
    let (_server, prom) = scene.wired.prometheus(false);
    let began = Instant::now();
    eventful(&mut scene, &people);
    scene.fleet().start_standby("coordinator-2");

    let wanted = || TABLE.iter().filter(|metric| !NOT_HERE.iter().any(|(not, _)| *not == metric.name));
    until_empty("Prometheus lacks", || {
        let lacks = wanted().map(|metric| match metric.kind {
            Kind::Counter | Kind::Gauge => prometheus_name(metric),
            Kind::Histogram(_) => prometheus_name(metric) + "_bucket",
        });
        lacks.filter(|name| !has(&prom, name)).collect()
    });
    until_empty("behind the collector there is no", || {
        let arrived = sink.metrics();
        let kind = |kind: &Kind| match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let is_there = |metric: &Metric| {
            let mut points = arrived.iter().filter(|point| point.name == metric.name);
            points.any(|point| point.unit == metric.unit && point.kind == kind(&metric.kind))
        };
        wanted().filter(|metric| !is_there(metric)).map(|metric| metric.name.to_owned()).collect()
    });
    let known: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    for point in sink.metrics() {
        assert!(known.contains(point.name.as_str()), "{point:?} is not in the table");
    }
    who_tells_what(&prom);
    labels_are_those_of_the_table(&prom);
    // A rate needs more than what was there when it was seen first, and what is new is seen by one scrape a second: a round more may
    // be over between two of them.
    let mut number = 9;
    until_empty("rounds more give no data for", || {
        number += 1;
        scene.change(number);
        let _ = scene.fleet().run(&["start", "--wait"]);
        without_data(&prom, began.elapsed())
    });
}

/// Only the leader tells of the fleet, only agents of their captures; all of them of themselves.
fn who_tells_what(prom: &Prom) {
    let mut leads: Vec<f64> =
        prom.now("muster_leader").expect("an answer").iter().filter_map(Series::last).collect();
    leads.sort_by(f64::total_cmp);
    assert_eq!(leads, [0.0, 1.0], "each coordinator says whether it leads");
    for metric in TABLE.iter().filter(|metric| metric.kind == Kind::Gauge) {
        let found = prom.now(&prometheus_name(metric)).expect("an answer");
        let tellers: BTreeSet<(&str, &str)> = found
            .iter()
            .map(|series| (series.labels["job"].as_str(), series.labels["instance"].as_str()))
            .collect();
        let coordinators = tellers.iter().filter(|(job, _)| *job == "muster-coordinator").count();
        let agents = tellers.len() - coordinators;
        let right = match metric.by {
            By::Leader => coordinators <= 1 && agents == 0,
            // Of an epoch only who has led can tell.
            By::Coordinator => (1..=2).contains(&coordinators) && agents == 0,
            By::Agent => coordinators == 0 && agents == 3,
            By::All => coordinators == 2 && agents == 3,
        };
        assert!(right, "{} is told by {tellers:?}", metric.name);
    }
}

fn labels_are_those_of_the_table(prom: &Prom) {
    let usual = ["__name__", "job", "instance", "muster_fleet"];
    for metric in TABLE {
        let labels: BTreeSet<String> = metric.attributes.iter().map(|key| key.replace('.', "_")).collect();
        for series in prom.now(&prometheus_name(metric)).expect("an answer") {
            let own: BTreeSet<String> =
                series.labels.keys().filter(|name| !usual.contains(&name.as_str())).cloned().collect();
            assert_eq!(own, labels, "{}", metric.name);
        }
    }
}

/// The panels whose expressions had no answer within so much time.
fn without_data(prom: &Prom, past: Duration) -> BTreeSet<String> {
    let now = prom.now("time()").expect("an answer")[0].last().expect("a time");
    let window = Window { from: now - past.as_secs_f64(), to: now, step: 1.0 };
    let mut empty = BTreeSet::new();
    let absent: Vec<String> = TABLE
        .iter()
        .filter(|metric| NOT_HERE.iter().any(|(not, _)| *not == metric.name))
        .map(|metric| prometheus_name(metric))
        .collect();
    for (name, board) in boards() {
        for (panel, answered) in board.panels.iter().zip(answers(&board, prom, window)) {
            for (query, series) in panel.targets.iter().zip(answered) {
                let expression = query.ready(&Variables { rate_interval: "10s".to_owned() });
                if series.is_empty() && !absent.iter().any(|absent| expression.contains(absent)) {
                    empty.insert(format!("{name}: {}: {expression}", panel.title));
                }
            }
        }
    }
    empty
}

/// Whoever reads the page without Prometheus: it is the text format, and everything in it is in the table.
#[test]
fn the_page_of_metrics_names_what_the_table_has() {
    let mut scene = Scene::new(1, None);
    scene.up();
    scene.round(0);
    let names: BTreeSet<String> = TABLE.iter().map(|metric| prometheus_name(metric)).collect();
    for (file, port) in scene.wired.ports.clone() {
        let page = muster_tests::http::Api { port, token: None }.get("/metrics").with_status(200);
        assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{page:?}");
        let types: BTreeSet<&str> =
            page.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(types.len() > 5, "{file}: {}", page.body);
        let unknown: Vec<_> =
            types.iter().filter(|name| !names.contains(**name) && **name != "target_info").collect();
        assert!(unknown.is_empty(), "{file} tells {unknown:?}");
    }
    let docs = fs::read_to_string(deploy("../docs/metrics.md")).expect("the page of metrics");
    assert!(names.iter().all(|name| docs.contains(name.as_str())), "docs/metrics.md lacks a name");
}
