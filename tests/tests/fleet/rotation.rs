//! Recovery keys change while rounds run: each round opens with one keyset, and never with none.

use std::fs;
use std::path::Path;
use std::process::Command;

use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::process::Said;
use muster_tests::tree;
use serde_json::Value;

fn recover(fleet: &Fleet, kit: &Path, round: &str, into: &str) -> Said {
    let (share, kit, into) = (text(&fleet.share()), text(kit), text(&fleet.path(into)));
    fleet.run(&["recover", "--share", &share, "--kit", &kit, "--round", round, "--into", &into])
}

fn prove(fleet: &Fleet, kit: &Path) -> Said {
    fleet.run(&["key", "prove", "--kit", &text(kit), "--json"])
}

#[test]
fn a_rotation_is_for_the_rounds_after_it() {
    let data = tempfile::TempDir::new().expect("folder");
    let gate = Gate::at(data.path().join("gate"));
    tree::small(&data.path().join("tree"), 3);
    let bytes = tree::noise(5, 200_000);
    fs::write(data.path().join("file"), &bytes).expect("file");
    let mut fleet = Fleet::init(&[
        format!("steady=files:{}", text(&data.path().join("tree"))),
        format!("slow={}", gate.source(&data.path().join("file"))),
    ]);
    fleet.up();
    let _ = fleet.run(&["start", "--services", "slow"]).with_code(0);
    gate.wait_for_capture();
    let (old, new, root) = (fleet.kit(), fleet.path("kit-2"), text(&fleet.root()));
    // The escrow key of the new keyset is one that the stock tool made.
    let keygen = Command::new("age-keygen").output().expect("age-keygen runs");
    let identity = String::from_utf8(keygen.stdout).expect("text");
    let escrow =
        identity.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("its recipient");
    let rotate = |kit: &Path| {
        fleet.run(&[
            "key",
            "rotate",
            "--root",
            &root,
            "--kit",
            &text(kit),
            "--recipient",
            escrow,
            "--print-private",
            "--json",
        ])
    };
    for (kit, part) in
        [(fleet.share().join("kit"), "the share"), (fleet.dir().join("kit"), "the fleet's folder")]
    {
        let said = rotate(&kit).with_code(2);
        assert!(said.err.contains(part) && !kit.exists(), "{}", said.err);
    }
    let said = rotate(&new).with_code(0).json();
    assert_eq!((&said["schema"], &said["last_round_before"]), (&"muster.key-rotate/1".into(), &1.into()));
    assert_eq!(said["recipients"][1], escrow);
    assert_eq!(said["dropped"].as_array().map(Vec::len), Some(1));
    for name in ["recovery.key", "root.pub", "emergency.py", "README.md", "kit.html", "private-key.html"] {
        assert!(new.join(name).is_file(), "{name}");
    }
    let page = fs::read_to_string(new.join("kit.html")).expect("the page");
    assert!(
        page.contains(said["head"]["hash"].as_str().expect("a hash")) && !page.contains("AGE-SECRET-KEY")
    );

    // A round that is opened now: leader and agent have read of the rotation.
    let _ = fleet.run(&["start", "--services", "steady", "--wait"]).with_code(0);
    let proven = prove(&fleet, &new).with_code(0).json();
    assert_eq!((&proven["number"], &proven["proven"]), (&2.into(), &true.into()));
    assert_eq!(proven["services"][0]["state"], "opened", "{proven}");
    let said = prove(&fleet, &old).with_code(5);
    assert!(said.err.contains("does not open round 2"), "{}", said.err);

    // The round that was open before: its agent dies and captures anew, with the new keyset in the log that it reads.
    fleet.kill_agent("slow");
    gate.forget_captures();
    fleet.start_agent("slow");
    gate.wait_for_capture();
    gate.open();
    let round = fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);

    for (kit, round, code) in
        [(&old, "1", 0), (&new, "1", 5), (&old, "2", 5), (&new, "2", 0), (&old, "3", 5), (&new, "3", 0)]
    {
        let into = format!("out-{round}-{}", kit == &new);
        let said = recover(&fleet, kit, round, &into).with_code(code);
        let opens = if kit == &old { "this kit opens round 1" } else { "this kit opens rounds 2–3" };
        assert!(code == 0 || said.err.contains(opens), "{}", said.err);
        assert_eq!(fleet.path(&into).exists(), code == 0);
    }
    for round in ["out-1-false", "out-3-true"] {
        assert_eq!(fs::read(fleet.path(round).join("slow/command/output")).expect("the dump"), bytes);
    }
    tree::assert_same(&data.path().join("tree"), &fleet.path("out-3-true/steady/files"));

    // Both keys in one file open all of them.
    let joined = fleet.path("joined");
    fs::create_dir(&joined).expect("a folder");
    fs::copy(old.join("root.pub"), joined.join("root.pub")).expect("copied");
    let keys = [&old, &new].map(|kit| fs::read(kit.join("recovery.key")).expect("a key")).concat();
    muster_share::secret_file::create(&joined.join("recovery.key"), &keys).expect("written");
    let _ = fleet.run(&["verify", "--kit", &text(&old)]).with_code(5);
    let _ = fleet.run(&["verify", "--kit", &text(&joined)]).with_code(0);

    // An identity file of the stock tool is a kit, with comments and beside an identity of something else.
    let stock = fleet.path("stock");
    fs::create_dir(&stock).expect("a folder");
    fs::copy(old.join("root.pub"), stock.join("root.pub")).expect("copied");
    let other = Command::new("age-keygen").output().expect("age-keygen runs").stdout;
    let both = [b"# keys of two safes\n\n".as_slice(), &other, b"\n", identity.as_bytes()].concat();
    muster_share::secret_file::create(&stock.join("recovery.key"), &both).expect("written");
    let proven = prove(&fleet, &stock).with_code(0).json();
    assert_eq!(proven["opens_with"], serde_json::json!([escrow]));
    let _ = recover(&fleet, &stock, "3", "out-stock").with_code(0);

    let again = fleet.run(&["key", "rotate", "--root", &root, "--recipient", escrow]).with_code(0);
    assert!(again.out.contains("no more"), "{}", again.out);
    let said = fleet.run(&["key", "rotate", "--root", &root, "--recipient", escrow]).with_code(7);
    assert!(said.err.contains("in force already"), "{}", said.err);
}

/// KEY-02 of a recovery key: until it was shown to open a round, and again when that was long ago.
#[test]
fn a_proof_is_remembered_until_it_is_old() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&data.path().join("tree")))]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let unproven = || -> Vec<Value> {
        let status = fleet.run(&["status", "--json"]).with_code(0).json();
        let alerts = status["alerts"].as_array().expect("alerts").clone();
        let of_a_key = |alert: &Value| alert["subject"].as_str().is_some_and(|of| of.starts_with("age1"));
        alerts.into_iter().filter(|alert| alert["code"] == "KEY-02" && of_a_key(alert)).collect()
    };
    let alerts = unproven();
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0]["cause"].as_str().is_some_and(|cause| cause.starts_with("unproven")), "{alerts:?}");
    assert_eq!(alerts[0]["steps"][0], "muster key prove --kit PATH");

    // Away from the operator's configuration there is nowhere to note it.
    let (share, kit) = (text(&fleet.share()), text(&fleet.kit()));
    let away = fleet.run(&["key", "prove", "--kit", &kit, "--share", &share, "--json"]).with_code(0).json();
    assert_eq!((&away["proven"], &away["noted"]), (&true.into(), &false.into()));
    assert_eq!(unproven().len(), 1);

    let proven = prove(&fleet, &fleet.kit()).with_code(0).json();
    assert_eq!((&proven["proven"], &proven["noted"]), (&true.into(), &true.into()));
    assert_eq!(unproven(), Vec::<Value>::new());

    let file = fleet.dir().join("state/operator/proofs");
    let mut proof: Value = serde_json::from_slice(&fs::read(&file).expect("the proof")).expect("JSON");
    assert_eq!((&proof["number"], &proof["recipient"]), (&1.into(), &proven["opens_with"][0]));
    let day = 24 * 3600 * 1000;
    for (days, alerts) in [(89, 0), (91, 1)] {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        proof["at"] = (i64::try_from(now.as_millis()).expect("not so soon") - days * day).into();
        fs::write(&file, proof.to_string() + "\n").expect("written");
        assert_eq!(unproven().len(), alerts, "after {days} days");
    }
    assert!(unproven()[0]["cause"].as_str().is_some_and(|cause| cause.contains("ago: round 1")));
    // A torn line is no proof, and swallows none.
    fs::write(&file, format!("{{\"recipient\":\n{proof}\n{{")).expect("written");
    let _ = prove(&fleet, &fleet.kit()).with_code(0);
    assert_eq!(unproven(), Vec::<Value>::new());
}
