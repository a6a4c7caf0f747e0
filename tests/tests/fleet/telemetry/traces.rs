//! One trace for each round, through a real collector: from its trigger over every agent's stages to the commit.

use std::time::Duration;

use muster_test_servers::Rotel;
use muster_tests::process::wait_for;
use muster_tests::telemetry::{Sink, Span, Trace, deploy};

use super::scene::{SERVICES, Scene};

/// What every capture does.
const STAGES: [&str; 7] = ["walk", "read", "chunk", "compress", "seal", "self-check", "upload"];

/// The trace with this id, once nothing in it lacks what it is part of.
fn whole(sink: &Sink, id: &str) -> Trace {
    wait_for(&format!("the whole trace {id}"), || {
        let trace = Trace::all(&sink.spans()).remove(id)?;
        // A span that ends later may arrive later: what is below it waits for it.
        let joined = trace.roots().len() == 1 && trace.named("round").len() == 1;
        (joined && trace.named("check").len() >= SERVICES.len()).then_some(trace)
    })
}

fn says<'a>(span: &'a Span, key: &str) -> &'a str {
    span.attributes.get(key).map_or("", String::as_str)
}

fn from(span: &Span) -> (&str, &str) {
    let of = |key: &str| span.resource.get(key).map_or("", String::as_str);
    (of("service.name"), of("service.instance.id"))
}

#[test]
#[ignore = "needs rotel: ./x test --servers"]
fn servers_telemetry_a_round_is_one_trace_over_all_agents() {
    let sink = Sink::start();
    let rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let mut scene = Scene::new(1, Some(&rotel.url()));
    scene.fleet().set("MUSTER_CUT_ENABLED", "true");
    scene.break_flaky(1);
    scene.up();
    scene.round(0);
    let id = scene.id(1);
    let trace = whole(&sink, &id);
    let drawn = trace.drawn();

    let roots = trace.roots();
    assert_eq!(roots.len(), 1, "more than one root:\n{drawn}");
    let root = roots[0];
    assert_eq!(
        (root.name.as_str(), root.parent.as_str(), says(root, "muster.round")),
        ("round", "", id.as_str())
    );
    assert_eq!((says(root, "muster.round.number"), says(root, "muster.outcome")), ("1", "complete"));
    assert_eq!(from(root).0, "muster-coordinator");
    for phase in ["open", "recruit", "cut", "capture", "commit", "verify"] {
        let spans = trace.named(phase);
        let below = spans.iter().any(|span| span.parent == root.id);
        assert!(below, "no {phase} below the round:\n{drawn}");
    }

    // Agents have theirs below the order.
    let slices: Vec<_> =
        trace.named("slice").into_iter().filter(|span| from(span).0 == "muster-coordinator").collect();
    let mut attempts: Vec<(&str, &str)> =
        slices.iter().map(|slice| (says(slice, "muster.service"), says(slice, "muster.attempt"))).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [("config", "1"), ("flaky", "1"), ("flaky", "2"), ("slow", "1")], "{drawn}");
    assert!(slices.iter().all(|slice| slice.parent == root.id), "a slice is not the round's:\n{drawn}");
    let of = |service: &str, attempt: &str| {
        let fits = |span: &&&Span| {
            says(span, "muster.service") == service && says(span, "muster.attempt") == attempt
        };
        *slices.iter().find(fits).expect("a slice")
    };
    let (first, second) = (of("flaky", "1"), of("flaky", "2"));
    assert_eq!(second.links, [(id.clone(), first.id.clone())], "a retry points to the first attempt");
    assert!(first.links.is_empty() && of("slow", "1").links.is_empty());
    let failed: Vec<_> = first.events.iter().filter(|event| event.name == "failed").collect();
    assert_eq!(failed.len(), 1, "{first:?}");
    assert_eq!(failed[0].attributes["muster.code"], "AGENT-03");
    assert!(failed[0].attributes["muster.reason"].contains("the disk is on fire"), "{first:?}");

    const AGENT: [&str; 5] = ["round", "slice", "send order", "process order", "slice"];
    for service in SERVICES {
        let theirs = |name: &str| {
            let all = trace.named(name).into_iter();
            all.filter(|span| from(span) == ("muster-agent", service))
                .map(|span| trace.path(span))
                .collect::<Vec<_>>()
        };
        for name in ["capture", "send notice"] {
            let path = [&AGENT[..], &[name]].concat();
            assert!(
                theirs(name).contains(&path.iter().map(ToString::to_string).collect()),
                "{service} {name}:\n{drawn}"
            );
        }
        for stage in STAGES {
            let path = [&AGENT[..], &["capture", stage]].concat();
            let paths = theirs(stage);
            assert!(
                paths.contains(&path.iter().map(ToString::to_string).collect()),
                "{service} {stage} {paths:?}:\n{drawn}"
            );
        }
    }
    // By the same names as the coordinator's.
    for span in trace.named("slice").into_iter().filter(|span| from(span).0 == "muster-agent") {
        assert_eq!(
            (says(span, "muster.service"), says(span, "muster.round")),
            (from(span).1, id.as_str()),
            "{span:?}"
        );
        assert!(["1", "2"].contains(&says(span, "muster.attempt")), "{span:?}");
        assert!(["service", "round", "attempt"].iter().all(|other| says(span, other).is_empty()), "{span:?}");
    }
    let checks = trace.named("check");
    assert_eq!(checks.len(), SERVICES.len(), "{drawn}");
    assert!(
        checks.iter().all(|check| trace.parent(check).is_some_and(|slice| slice.name == "slice")),
        "{drawn}"
    );

    for (name, kind, what) in [
        ("send order", "producer", "send"),
        ("process order", "consumer", "process"),
        ("send notice", "producer", "send"),
    ] {
        for span in trace.named(name) {
            assert_eq!((span.kind, says(span, "messaging.system")), (kind, "nats"), "{span:?}");
            assert_eq!(says(span, "messaging.operation.type"), what, "{span:?}");
            assert!(says(span, "messaging.destination.name").starts_with("muster.v1.test."), "{span:?}");
            assert!(says(span, "messaging.destination.template").contains('{'), "{span:?}");
        }
    }
    let slow: Vec<_> = trace.named("capture").into_iter().filter(|span| from(span).1 == "slow").collect();
    assert!(
        slow.iter().any(|span| span.ended - span.began > 1_000_000_000),
        "the slow one took its time: {slow:?}"
    );
    assert!(trace.spans.iter().all(|span| span.ended >= span.began), "a span ends before it begins");
    let strangers: Vec<_> = sink
        .spans()
        .into_iter()
        .filter(|span| span.name.contains("http") || span.name.contains("POST"))
        .collect();
    assert!(strangers.is_empty(), "the exporter traces itself: {strangers:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rotel: ./x test --servers"]
async fn servers_telemetry_a_trigger_with_a_traceparent_is_the_parent_of_its_round() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";
    let sink = Sink::start();
    let rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let mut scene = Scene::new(1, Some(&rotel.url()));
    scene.up();
    let client = scene.fleet().trigger_client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-{SPAN}-01"));
    let request = async_nats::Request::new()
        .headers(headers)
        .payload("{}".into())
        .timeout(Some(Duration::from_secs(20)));
    let said = client.send_request("muster.v1.test.trigger", request).await.expect("an answer");
    let said: serde_json::Value = serde_json::from_slice(&said.payload).expect("JSON");
    assert_eq!(said["state"], "opened", "{said}");
    scene.fleet().wait_for_round(1, &["verified"]);
    let trace = whole(&sink, TRACE);
    let round = trace.named("round")[0];
    assert_eq!(round.parent, SPAN, "{}", trace.drawn());
    assert_eq!(says(round, "muster.round"), scene.id(1));
    let roots = trace.roots();
    assert_eq!((roots.len(), &roots[0].name), (1, &round.name), "{}", trace.drawn());
    // The next one, which nobody asked for in a trace, has its own.
    scene.round(0);
    let own = whole(&sink, &scene.id(2));
    assert_eq!(own.named("round")[0].parent, "", "{}", own.drawn());
}
