//! `muster doctor`: what it finds, and what it writes down.

use std::fs;

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use serde_json::Value;

fn finding<'a>(said: &'a Value, check: &str) -> &'a Value {
    let findings = said["findings"].as_array().expect("findings");
    findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check}: {said}"))
}

#[test]
fn a_doctor_finds_what_is_wrong_until_nothing_is_and_writes_no_secret_down() {
    let mut fleet = Fleet::init(&[
        "dns=files:/etc/hostname".to_owned(),
        "vault=command:[\"echo\",\"hunter2\"]".to_owned(),
    ]);
    let said = fleet.run(&["doctor", "--json"]).with_code(6).json();
    assert_eq!((&said["schema"], &said["verdict"]), (&"muster.doctor/1".into(), &"bad".into()));
    assert_eq!(finding(&said, "configuration")["verdict"], "good");
    assert_eq!(finding(&said, "share exclusive")["verdict"], "good");
    let rounds = finding(&said, "rounds");
    assert_eq!((&rounds["verdict"], &rounds["code"]), (&"bad".into(), &"ROUND-04".into()));
    let shown = fleet.run(&["doctor"]).with_code(6).out;
    assert!(
        shown.contains("BUS-01: NATS: no NATS server") && shown.contains("muster start --wait"),
        "{shown}"
    );

    fleet.up();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    fs::rename(fleet.kit(), fleet.path("kit-away")).expect("taken away");
    fs::rename(fleet.root(), fleet.path("root-away")).expect("taken away");
    let bundle = fleet.path("bundle.json");
    wait_for("nothing to be wrong", || {
        let said = fleet.run(&["doctor", "--json"]);
        (said.code == 0).then_some(())
    });
    let said = fleet.run(&["doctor", "--json", "--bundle", &text(&bundle)]).with_code(0).json();
    assert_eq!(finding(&said, "agents")["said"], "all 2 are online");
    assert_eq!(finding(&said, "keys")["verdict"], "good");
    let written = fs::read_to_string(&bundle).expect("written");
    let written: Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!(written["schema"], "muster.doctor-bundle/1");
    let vault = written["configurations"]["agents/vault.toml"].as_str().expect("its configuration");
    assert!(vault.contains("echo") && !vault.contains("hunter2"), "{vault}");
    assert_eq!(written["agents"].as_array().map(Vec::len), Some(2));
    let again = fleet.run(&["doctor", "--bundle", &text(&bundle)]).with_code(2);
    assert!(again.err.contains("bundle.json"), "{}", again.err);

    // What is promised by default still is, once it is set no more.
    let _ = fleet.run(&["config", "unset", "interval"]).with_code(0);
    assert!(fleet.run(&["status"]).with_code(0).out.contains("promised 24 h"));

    let key = fleet.dir().join("keys/agent-dns.chunk");
    fs::rename(&key, fleet.path("chunk")).expect("moved");
    let said = fleet.run(&["doctor", "--json"]).with_code(1).json();
    let wrong = finding(&said, "keys");
    assert!(wrong["said"].as_str().is_some_and(|said| said.contains("agent-dns.chunk")), "{said}");
    fs::rename(fleet.path("chunk"), &key).expect("moved back");

    // A share that says what cannot be keeps nobody from looking at the rest, and writing it down.
    let record = fleet.share().join("log/0000000001");
    let bytes = fs::read(&record).expect("a record");
    fs::write(&record, b"junk").expect("written");
    let bundle = fleet.path("damaged.json");
    let said = fleet.run(&["doctor", "--json", "--bundle", &text(&bundle)]).with_code(4).json();
    assert_eq!(
        (&finding(&said, "share")["verdict"], &finding(&said, "keys")["verdict"]),
        (&"bad".into(), &"good".into())
    );
    assert!(bundle.is_file());
    fs::write(&record, bytes).expect("mended");

    fs::write(fleet.dir().join("agents/dns.toml"), "no = [").expect("written");
    let said = fleet.run(&["doctor", "--json"]).with_code(1).json();
    let wrong = finding(&said, "configuration");
    assert!(wrong["said"].as_str().is_some_and(|said| said.contains("dns.toml")), "{wrong}");
}

#[test]
fn an_operator_toml_that_cannot_be_used_is_a_finding() {
    let fleet = Fleet::init(&["dns=files:/etc/hostname".to_owned()]);
    let file = fleet.dir().join("operator.toml");
    let before = fs::read_to_string(&file).expect("a configuration");
    fs::write(&file, before.replacen("[operator]", "[operatr]", 1)).expect("written");
    let bundle = fleet.path("bundle.json");
    let said = fleet.run(&["doctor", "--json", "--bundle", &text(&bundle)]).with_code(2).json();
    assert_eq!((&said["verdict"], &said["fleet"]), (&"bad".into(), &Value::Null));
    let wrong = finding(&said, "configuration");
    assert_eq!(wrong["verdict"], "bad");
    assert!(wrong["said"].as_str().is_some_and(|said| said.contains("operator.toml")), "{wrong}");
    assert_eq!(finding(&said, "disk")["verdict"], "good");
    for check in ["keys", "bus", "agents", "share", "rounds", "alerts"] {
        let unseen = finding(&said, check);
        assert_eq!(unseen["verdict"], "warning", "{unseen}");
        assert!(unseen["said"].as_str().is_some_and(|said| said.starts_with("not looked at: ")), "{unseen}");
    }
    assert!(bundle.is_file());
    fs::remove_file(&file).expect("removed");
    let said = fleet.run(&["doctor"]).with_code(2);
    assert!(said.err.contains("operator.toml is missing"), "{}", said.err);
}
