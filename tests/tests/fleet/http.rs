//! The HTTP API of real coordinators: it says what the commands say, lets in whom it should, and is in nobody's way.

use std::io::Write;
use std::time::{Duration, Instant};

use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::http::{Answered, Api, answer};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::{Value, json};

/// A fleet of one service with its API, and a token that may do all there is to do.
fn fleet() -> (Fleet, Api, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    let mut fleet = Fleet::init(&[format!("a=files:{}", text(&data.path().join("a")))]);
    let api = fleet.take_http_port();
    let token = fleet.token("ci", "operator", "90d");
    fleet.up();
    api.wait_until_ready();
    let api = api.with(&token);
    wait_for_leader(&api);
    (fleet, api, data)
}

fn wait_for_leader(api: &Api) {
    wait_for("a leader answers", || {
        let status = api.get("/api/v1/status");
        (status.status == 200 && status.json()["leader"]["coordinator"].is_string()).then_some(())
    });
}

/// Without what only the operator's own machine can judge, and what time alone changes.
fn comparable(mut value: Value) -> Value {
    if let Some(alerts) = value["alerts"].as_array_mut() {
        alerts.retain(|alert| !alert["since"].is_null());
    }
    still(&mut value);
    value
}

fn still(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !["age_secs", "verified_age_secs", "seen_secs", "next_in_secs", "free_bytes", "kept"]
                    .contains(&name.as_str())
            });
            fields.values_mut().for_each(still);
        }
        Value::Array(items) => items.iter_mut().for_each(still),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn problem(answered: Answered, status: u16, kind: &str) -> Value {
    let answered = answered.with_status(status);
    assert_eq!(answered.header("content-type"), Some("application/problem+json"), "{answered:?}");
    let problem = answered.json();
    assert_eq!(problem["type"], format!("urn:muster:problem:{kind}"), "{problem}");
    assert_eq!(problem["status"], status);
    problem
}

#[test]
fn each_read_says_what_the_command_says() {
    let (fleet, api, _data) = fleet();
    let _ = fleet.run(&["start", "--wait", "--reason", "a test"]).with_code(0);
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    for (path, command) in [
        ("/api/v1/status", &["status", "--json"][..]),
        ("/api/v1/rounds", &["rounds", "--json"]),
        ("/api/v1/rounds?limit=1", &["rounds", "--last", "1", "--json"]),
        ("/api/v1/rounds?limit=5&before=2", &["rounds", "--last", "5", "--before", "2", "--json"]),
        ("/api/v1/rounds/latest", &["show", "latest", "--json"]),
        ("/api/v1/rounds/1", &["show", "1", "--json"]),
        ("/api/v1/agents", &["agents", "--json"]),
        ("/api/v1/alerts", &["alerts", "--json"]),
        ("/api/v1/alerts?closed=true", &["alerts", "--all", "--json"]),
        ("/api/v1/config", &["config", "show", "--json"]),
        ("/api/v1/audit", &["audit", "--json"]),
        ("/api/v1/audit?limit=2&before=5", &["audit", "--limit", "2", "--before", "5", "--json"]),
        ("/api/v1/audit?kind=config&since=1d", &["audit", "--kind", "config", "--since", "1d", "--json"]),
    ] {
        let http = api.get(path).with_status(200);
        assert_eq!(http.header("content-type"), Some("application/json"));
        let said = fleet.run(command).with_code(0).json();
        assert_eq!(comparable(http.json()), comparable(said), "{path}");
    }
    let rounds = api.get("/api/v1/rounds?limit=1").json();
    assert_eq!((&rounds["rounds"][0]["number"], &rounds["next"]), (&2.into(), &2.into()));
    let id = rounds["rounds"][0]["round"].as_str().expect("an id").to_owned();
    assert_eq!(api.get(&format!("/api/v1/rounds/id:{}", &id[..8])).json()["number"], 2);
    let schedule = api.get("/api/v1/schedule").with_status(200).json();
    assert_eq!(schedule["schedule"], api.get("/api/v1/status").json()["schedule"]);
    let version = api.get("/api/v1/version").with_status(200).json();
    assert_eq!((&version["coordinator"], &version["leads"]), (&"coordinator".into(), &true.into()));
    let config = api.get("/api/v1/config").body;
    assert!(!config.contains("sha256") && !config.contains("token."), "{config}");
    // The token is told by name alone, in words.
    let audit = api.get("/api/v1/audit?kind=config").body;
    assert!(audit.contains("made the token ci (operator, until ") && !audit.contains("sha256"), "{audit}");
    // Who needs no token.
    for path in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
        let _ = api.bare().get(path).with_status(200);
    }
    let kept = std::fs::read_to_string("../docs/openapi.json").expect("the document");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(api.bare().get("/api/v1/openapi.json").json(), kept);
}

#[test]
fn one_idempotency_key_is_one_round_and_the_log_names_the_token() {
    let data = tempfile::TempDir::new().expect("folder");
    let file = data.path().join("file");
    std::fs::write(&file, tree::noise(3, 10_000)).expect("file");
    let gate = Gate::at(data.path().join("gate"));
    let mut fleet = Fleet::init(&[format!("slow={}", gate.source(&file))]);
    let api = fleet.take_http_port();
    let token = fleet.token("ci", "operator", "never");
    fleet.up();
    api.wait_until_ready();
    let api = api.with(&token);
    wait_for_leader(&api);
    let key = [("Idempotency-Key", "nightly-1")];
    let body = r#"{"services": ["slow"], "reason": "before the move"}"#;
    let first = api.post("/api/v1/rounds", &key, body).with_status(201);
    let again = api.post("/api/v1/rounds", &key, body).with_status(200);
    let (one, two) = (first.json(), again.json());
    assert_eq!(
        (&one["schema"], &one["state"], &one["request"]),
        (&"muster.start/1".into(), &"opened".into(), &"nightly-1".into())
    );
    assert_eq!((&one["round"], &two["state"]), (&two["round"], &"running".into()));
    let place = first.header("location").expect("a place").to_owned();
    assert_eq!(api.get(&place).with_status(200).json()["trigger"], "command of token ci: before the move");
    let waits = api.post("/api/v1/rounds", &[], "").with_status(202).json();
    assert_eq!(waits["state"], "queued");
    let taken_back = format!("/api/v1/rounds/{}/cancel", waits["round"].as_str().expect("an id"));
    let _ = api.post(&taken_back, &[], "").with_status(200);

    // As it happens, to its end.
    gate.wait_for_capture();
    let follower = std::thread::spawn({
        let api = api.clone();
        move || api.events("/api/v1/rounds/1/events")
    });
    gate.open();
    let _ = fleet.wait_for_round(1, &["verified"]);
    let events = follower.join().expect("it follows");
    let (name, last) = events.last().expect("an event");
    assert_eq!(
        (name.as_str(), &last["schema"], &last["state"]),
        ("round", &"muster.round/1".into(), &"verified".into())
    );
    assert_eq!((events[0].0.as_str(), &events[0].1["schema"]), ("progress", &"muster.progress/1".into()));
    let said = fleet.run(&["watch", "1", "--json"]).with_code(0);
    let line: Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(comparable(line), comparable(last.clone()));
    let over = api.events("/api/v1/rounds/1/events");
    assert_eq!(over.last().map(|(name, _)| name.as_str()), Some("round"), "what is over is told at once");
    let ended = api.post("/api/v1/rounds", &key, body).with_status(200).json();
    assert_eq!((&ended["state"], fleet.rounds().len()), (&"ended".into(), 1));

    // Cancelled, with the token's name in the log.
    gate.close();
    let _ = api.post("/api/v1/rounds", &[], r#"{"services": ["slow"]}"#).with_status(201);
    // Whoever follows it is told no more once the token counts no longer.
    let following = api.with(&fleet.token("eyes", "viewer", "90d")).begin("/api/v1/rounds/2/events");
    assert!(following.peek(&mut [0]).expect("it is told") > 0);
    let _ = fleet.run(&["token", "revoke", "eyes"]).with_code(0);
    let told = answer(following).with_status(200).body;
    assert!(told.contains("event: progress") && !told.contains("event: round"), "{told}");
    let cancelled = api.post("/api/v1/rounds/latest/cancel", &[], r#"{"reason": "a mistake"}"#);
    assert_eq!(cancelled.with_status(200).json()["schema"], "muster.cancel/1");
    let round = fleet.wait_for_round(2, &["cancelled"]);
    let shown = fleet.run(&["show", "2", "--json"]).with_code(0).json();
    assert_eq!(shown["reason"], "cancelled by token ci: a mistake", "{round}");
    let over = problem(api.post("/api/v1/rounds/2/cancel", &[], ""), 409, "refused");
    assert!(over["detail"].as_str().is_some_and(|said| said.contains("round 2 is not open")), "{over}");
    assert!(over["next"][0].as_str().is_some_and(|next| next.contains("/api/v1/rounds")), "{over}");
    let _ = problem(api.post("/api/v1/rounds/latest/cancel", &[], ""), 404, "unknown");

    // A disabled fleet: no token forces it.
    let _ = fleet.run(&["disable", "--reason", "the racks are moved"]).with_code(0);
    let refused = problem(api.post("/api/v1/rounds", &[], ""), 409, "refused");
    assert!(refused["detail"].as_str().is_some_and(|said| said.contains("the racks are moved")), "{refused}");
    // An alert, acknowledged: its book and the log name the token.
    let alert = wait_for("SCHED-01", || {
        let alerts = api.get("/api/v1/alerts").with_status(200).json();
        let alerts = alerts["alerts"].as_array().expect("alerts").clone();
        alerts.into_iter().find(|alert| alert["code"] == "SCHED-01")
    });
    let id = alert["id"].as_str().expect("an id");
    let acknowledged = api.post(&format!("/api/v1/alerts/{}/ack", &id[..6]), &[], "").with_status(200).json();
    assert_eq!((&acknowledged["id"], &acknowledged["state"]), (&id.into(), &"done".into()));
    let seen = api.get(&format!("/api/v1/alerts/{id}")).with_status(200).json();
    assert_eq!(seen["alerts"][0]["acknowledged_by"], "token-ci");
    let said = wait_for("the audit trail names the token", || {
        let audit = fleet.run(&["audit", "--kind", "audit", "--json"]).with_code(0).json();
        audit["entries"][0]["what"].as_str().map(str::to_owned)
    });
    assert!(said.starts_with("token ci: SCHED-01 of fleet: acknowledged"), "{said}");
}

#[test]
fn roles_ends_and_revocations_count_without_a_restart() {
    let (fleet, api, _data) = fleet();
    let viewer = api.with(&fleet.token("eyes", "viewer", "90d"));
    let brief = api.with(&fleet.token("brief", "operator", "2s"));
    let _ = viewer.get("/api/v1/status").with_status(200);
    for path in ["/api/v1/rounds", "/api/v1/rounds/latest/cancel", "/api/v1/alerts/0a/ack"] {
        let refused = problem(viewer.post(path, &[], ""), 403, "role");
        assert_eq!(
            (&refused["code"], &refused["accepted"]),
            (&"SEC-01".into(), &"a token of the role operator".into())
        );
    }
    let alerts = api.get("/api/v1/alerts").json();
    let alerts = alerts["alerts"].as_array().expect("alerts");
    let tried = alerts.iter().find(|alert| alert["code"] == "SEC-01").expect("SEC-01");
    assert!(
        tried["cause"].as_str().is_some_and(|cause| cause.contains("the token eyes may only look")),
        "{tried}"
    );
    // What only an operator's own key may: no token does.
    for (method, path, command) in [
        ("PATCH", "/api/v1/config", "muster config set"),
        ("POST", "/api/v1/enable", "muster enable"),
        ("POST", "/api/v1/disable", "muster disable"),
        ("POST", "/api/v1/prune", "muster prune"),
        ("POST", "/api/v1/rounds/latest/hold", "muster hold"),
        ("POST", "/api/v1/rounds/latest/unhold", "muster unhold"),
    ] {
        let refused = problem(api.ask(method, path, &[], ""), 403, "signature");
        assert!(refused["next"][0].as_str().is_some_and(|next| next.contains(command)), "{refused}");
    }
    let ended = wait_for("the brief token has ended", || {
        let answered = brief.get("/api/v1/version");
        (answered.status == 401).then_some(answered)
    });
    assert_eq!(ended.header("www-authenticate"), Some("Bearer realm=\"muster\""));
    assert_eq!(problem(ended, 401, "token")["detail"], "the token brief has ended");
    let _ = fleet.run(&["token", "revoke", "eyes"]).with_code(0);
    let _ = problem(viewer.get("/api/v1/status"), 401, "token");
    let list = fleet.run(&["token", "list", "--json"]).with_code(0).json();
    let names: Vec<_> =
        list["tokens"].as_array().expect("tokens").iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["brief", "ci"]);
    assert_eq!((&list["tokens"][0]["ended"], &list["tokens"][1]["role"]), (&true.into(), &"operator".into()));
    let said = fleet.run(&["audit", "--limit", "1"]).with_code(0).out;
    assert!(said.contains("revoked the token eyes"), "{said}");
    let said = fleet
        .run(&["token", "new", "ci", "--role", "viewer", "--into", &text(&fleet.path("x"))])
        .with_code(7);
    assert!(said.err.contains("there is a token ci already") && !fleet.path("x").exists(), "{said:?}");
    let there = text(&fleet.path("ci.token"));
    let said = fleet.run(&["token", "new", "other", "--role", "viewer", "--into", &there]).with_code(2);
    assert!(said.err.contains("ci.token"), "{said:?}");
    let said = fleet.run(&["token", "revoke", "nobody"]).with_code(2);
    assert!(said.err.contains("there is no token nobody"), "{said:?}");
    // Whoever guesses is told to come later, and whoever has a token is not.
    wait_for("guessing is slowed down", || {
        let answered = api.with("muster_guess").get("/api/v1/status").with_status(401);
        answered.header("retry-after").map(str::to_owned)
    });
    let _ = problem(viewer.get("/api/v1/status"), 401, "token");
    let _ = api.get("/api/v1/status").with_status(200);
}

#[test]
fn a_follower_reads_by_itself_and_asks_the_leader_for_the_rest() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    let services = [format!("a=files:{}", text(&data.path().join("a")))];
    let mut fleet = Fleet::init_with_coordinators(2, &services);
    let first = fleet.take_http_port();
    let token = fleet.token("ci", "operator", "90d");
    fleet.up();
    first.wait_until_ready();
    wait_for_leader(&first.with(&token));
    let second = fleet.take_http_port();
    // It follows for as long as this test takes.
    fleet.set("MUSTER_LEAD_TAKEOVER", "1h");
    fleet.start_standby("coordinator-2");
    second.wait_until_ready();
    let (first, second) = (first.with(&token), second.with(&token));
    let version = second.get("/api/v1/version").with_status(200);
    assert_eq!(version.header("muster-coordinator"), Some("coordinator-2"));
    let version = version.json();
    assert_eq!((&version["leads"], &version["leader"]), (&false.into(), &"coordinator".into()));
    let key = [("Idempotency-Key", "from-a-follower")];
    let started = second.post("/api/v1/rounds", &key, r#"{"services": ["a"]}"#).with_status(201).json();
    let again = first.post("/api/v1/rounds", &key, r#"{"services": ["a"]}"#).with_status(200).json();
    assert_eq!(started["round"], again["round"]);
    let events = second.events("/api/v1/rounds/1/events");
    assert_eq!(events.last().expect("an event").1["state"], "verified");
    for path in ["/api/v1/status", "/api/v1/rounds", "/api/v1/agents", "/api/v1/alerts", "/api/v1/rounds/1"] {
        let (one, two) = (first.get(path).with_status(200), second.get(path).with_status(200));
        assert_eq!(comparable(one.json()), comparable(two.json()), "{path}");
    }
    // Both gone from the bus: what the log says is said, what only the leader knows is not.
    fleet.kill_coordinator();
    drop(fleet.nats.take());
    let agents = wait_for("nobody leads", || {
        let agents = second.get("/api/v1/agents").with_status(200).json();
        (agents["bus"] == false).then_some(agents)
    });
    assert_eq!(agents["agents"][0]["state"], "unknown");
    assert_eq!(second.get("/api/v1/rounds/1").with_status(200).json()["state"], "verified");
    let status = second.get("/api/v1/status").with_status(200).json();
    assert!(status["bus_error"].is_string() && status["leader"].is_null(), "{status}");
    let refused = second.post("/api/v1/rounds", &[], "");
    assert_eq!(problem(refused.clone(), 503, "leader")["status"], 503);
    assert!(refused.header("retry-after").is_some());
}

/// Method, address, headers, body; then status, the value that is named, and part of what would be accepted.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str, &'a str);

#[test]
fn what_cannot_be_is_refused_with_what_could() {
    let (fleet, api, _data) = fleet();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let long = "x".repeat(70_000);
    let reason = format!(r#"{{"reason": "{}"}}"#, "x".repeat(401));
    let key = "k".repeat(129);
    let cases: &[Case<'_>] = &[
        ("GET", "/api/v1/rounds?limit=0", &[], "", 400, "query limit", "a number from 1 to 200"),
        ("GET", "/api/v1/rounds?limit=many", &[], "", 400, "query limit", "a number from 1 to 200"),
        ("GET", "/api/v1/rounds?last=5", &[], "", 400, "query", "one of limit, before"),
        ("GET", "/api/v1/rounds?limit=1&limit=2", &[], "", 400, "query limit", "a number from 1 to 200"),
        ("GET", "/api/v1/status?verbose=1", &[], "", 400, "query", "nothing: this address takes no query"),
        ("GET", "/api/v1/alerts?closed=yes", &[], "", 400, "query closed", "true or false"),
        ("GET", "/api/v1/audit?kind=magic", &[], "", 400, "query kind", "one of accept, adopt, audit"),
        ("GET", "/api/v1/audit?since=soon", &[], "", 400, "query since", "a moment such as"),
        ("GET", "/api/v1/rounds/xyz", &[], "", 400, "path round", "latest, a number"),
        ("GET", "/api/v1/rounds/99", &[], "", 404, "path round", ""),
        ("GET", "/api/v1/rounds/%ff", &[], "", 400, "path", ""),
        ("GET", "/api/v1/rounds/99/events", &[], "", 404, "path round", ""),
        ("GET", "/api/v1/alerts/zz", &[], "", 404, "path alert", "the id of an alert"),
        ("GET", "/api/v2/status", &[], "", 404, "path", "openapi.json"),
        ("GET", "/", &[], "", 404, "path", "openapi.json"),
        ("DELETE", "/api/v1/rounds", &[], "", 405, "method", "GET"),
        ("POST", "/api/v1/status", &[], "", 405, "method", "GET"),
        ("POST", "/api/v1/rounds", &[], "{", 400, "body", "a JSON object"),
        ("POST", "/api/v1/rounds", &[], "[]", 400, "body", "a JSON object"),
        ("POST", "/api/v1/rounds", &[], r#"{"force": true}"#, 400, "body", "a JSON object"),
        ("POST", "/api/v1/rounds", &[], r#"{"services": ["A"]}"#, 400, "body services", "a name like"),
        ("POST", "/api/v1/rounds", &[], r#"{"services": []}"#, 400, "body services", "one service or more"),
        ("POST", "/api/v1/rounds", &[], r#"{"services": ["b"]}"#, 404, "body services", "/api/v1/agents"),
        ("POST", "/api/v1/rounds", &[], r#"{"labels": ["No"]}"#, 400, "body labels", "a label like"),
        ("POST", "/api/v1/rounds", &[], &reason, 400, "body reason", "at most 400 characters"),
        ("POST", "/api/v1/rounds", &[], &long, 413, "body", "at most 65536 bytes"),
        (
            "POST",
            "/api/v1/rounds",
            &[("Idempotency-Key", &key)],
            "",
            400,
            "header Idempotency-Key",
            "1 to 128",
        ),
        (
            "POST",
            "/api/v1/rounds",
            &[("Content-Type", "text/plain")],
            "{}",
            415,
            "header Content-Type",
            "application/json",
        ),
        ("GET", "/api/v1/status", &[("Host", "evil.example.org")], "", 421, "header Host", "localhost"),
        (
            "GET",
            "/api/v1/status",
            &[("Authorization", "Basic Y2k6Y2k=")],
            "",
            401,
            "header Authorization",
            "Bearer TOKEN",
        ),
    ];
    for (method, path, headers, body, status, at, accepted) in cases {
        let answered = api.ask(method, path, headers, body);
        let said = format!("{method} {path}: {answered:?}");
        assert_eq!(answered.status, *status, "{said}");
        assert_eq!(answered.header("content-type"), Some("application/problem+json"), "{said}");
        let problem = answered.json();
        assert_eq!(problem["at"], *at, "{said}");
        assert!(problem["accepted"].as_str().unwrap_or_default().contains(accepted), "{said}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{said}");
        if *status == 405 {
            assert!(answered.header("allow").is_some_and(|allow| allow.contains("GET")), "{said}");
        }
    }
    // A browser's page from elsewhere gets nothing that it may read.
    let asked = api.ask("GET", "/api/v1/status", &[("Origin", "https://evil.example.org")], "");
    assert_eq!(asked.header("access-control-allow-origin"), None);
    let _ = problem(
        api.ask("OPTIONS", "/api/v1/rounds", &[("Origin", "https://evil.example.org")], ""),
        405,
        "method",
    );
    assert_eq!(fleet.rounds().len(), 1, "none of it began a round");
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let (_fleet, api, _data) = fleet();
    let mut silent: Vec<_> = (0..300).map(|_| api.connect()).collect();
    let half = b"POST /api/v1/rounds HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{";
    for stream in silent.iter_mut().step_by(3) {
        // Some were let go already.
        stream.write_all(half).ok();
    }
    for _ in 0..20 {
        let _ = api.get("/api/v1/version").with_status(200);
    }
    // A body that never comes is given up, and so is a head.
    let mut slow = api.connect();
    let token = api.token.clone().expect("a token");
    let head = format!(
        "POST /api/v1/rounds HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).expect("sent");
    assert_eq!(problem(answer(slow), 408, "slow")["at"], "body");
    // One that says itself that it is too long is refused before any of it comes.
    let mut long = api.connect();
    let head = format!(
        "POST /api/v1/rounds HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 9000000000\r\n\r\n{{",
        api.token.as_deref().unwrap_or_default()
    );
    long.write_all(head.as_bytes()).expect("sent");
    let began = Instant::now();
    assert_eq!(problem(answer(long), 413, "length")["at"], "body");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn a_busy_port_or_none_is_in_nobodys_way() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    let mut fleet = Fleet::init(&[format!("a=files:{}", text(&data.path().join("a")))]);
    let written = std::fs::read_to_string(fleet.dir().join("coordinator.toml")).expect("a configuration");
    assert!(written.contains("[http]\nlisten = \"127.0.0.1:8470\"\n"), "{written}");
    let api = fleet.take_http_port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", api.port)).expect("the port");
    let token = fleet.token("ci", "viewer", "90d");
    fleet.up();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let log = std::fs::read_to_string(fleet.path("coordinator.log")).expect("a log");
    assert!(log.contains("the HTTP API cannot listen"), "{log}");
    drop(taken);
    let api = api.with(&token);
    wait_for("it listens once the port is free", || {
        std::net::TcpStream::connect(("127.0.0.1", api.port)).ok()
    });
    api.wait_until_ready();
    let _ = api.get("/api/v1/rounds/latest").with_status(200);
    // An orderly end, with somebody connected.
    let _connected = api.connect();
    fleet.coordinator().terminate();
    assert_eq!(fleet.coordinator_ends(), Some(0));
    // What other machines reach speaks TLS, or says why not.
    for (listen, insecure, code) in [("0.0.0.0:18470", "false", Some(2)), ("nowhere", "false", Some(2))] {
        fleet.set("MUSTER_HTTP_LISTEN", listen);
        fleet.set("MUSTER_HTTP_INSECURE", insecure);
        fleet.start_coordinator();
        assert_eq!(fleet.coordinator_ends(), code, "{listen}");
    }
    let log = std::fs::read_to_string(fleet.path("coordinator.log")).expect("a log");
    assert!(log.contains("tokens would travel in clear"), "{log}");
}

#[test]
fn a_follower_tells_the_leader_what_a_token_may_not() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    let services = [format!("a=files:{}", text(&data.path().join("a")))];
    let mut fleet = Fleet::init_with_coordinators(2, &services);
    fleet.start_nats();
    let _of_the_leader = fleet.take_http_port();
    fleet.start_coordinator();
    wait_for("the first leads", || {
        let status = fleet.run(&["status", "--json"]);
        (serde_json::from_str::<Value>(&status.out).ok()?["leader"]["coordinator"] == "coordinator")
            .then_some(())
    });
    let api = fleet.take_http_port();
    fleet.start_standby("coordinator-2");
    let viewer = api.with(&fleet.token("eyes", "viewer", "90d"));
    wait_for("the follower answers", || (viewer.get("/api/v1/status").status == 200).then_some(()));
    let refused = problem(viewer.post("/api/v1/rounds", &[], ""), 403, "role");
    assert_eq!(refused["code"], "SEC-01");
    let told = wait_for("the leader knows", || {
        let alerts = fleet.run(&["alerts", "--json"]).json();
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        alerts.into_iter().find(|alert| alert["code"] == "SEC-01")
    });
    assert!(
        told["cause"].as_str().is_some_and(|cause| cause.contains("the token eyes may only look")),
        "{told}"
    );
    assert!(fleet.rounds().is_empty());
}

#[test]
fn the_secret_of_a_token_is_where_it_was_put_and_nowhere_else() {
    let (fleet, api, _data) = fleet();
    let secret = api.token.clone().expect("a token");
    let _ = api.get("/api/v1/status").with_status(200);
    let _ = api.post("/api/v1/rounds", &[], "").with_status(201);
    let _ = fleet.wait_for_round(1, &["verified"]);
    let last = if secret.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{last}", &secret[..secret.len() - 1]);
    let _ = api.with(&wrong).get("/api/v1/status").with_status(401);
    let _ = api.bare().get(&format!("/api/v1/status?access_token={secret}")).with_status(401);
    let bundle = fleet.path("bundle.json");
    let _ = fleet.run(&["doctor", "--bundle", &text(&bundle)]);
    assert!(bundle.exists());
    let listed = fleet.run(&["token", "list"]).with_code(0);
    let shown = fleet.run(&["audit", "--limit", "0", "--json"]).with_code(0);
    assert!(!format!("{listed:?}{shown:?}").contains(&secret[7..]));
    let mut looked = 0;
    let mut folders = vec![fleet.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "token") {
                let bytes = std::fs::read(&path).unwrap_or_default();
                let found = bytes.windows(64).any(|window| window == &secret.as_bytes()[7..]);
                assert!(!found, "{}", path.display());
                looked += 1;
            }
        }
    }
    assert!(looked > 20, "{looked} files were looked at");
    let mode = std::fs::metadata(fleet.path("ci.token")).expect("the file").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    assert_eq!(json!(secret.len()), json!(7 + 64));
}
