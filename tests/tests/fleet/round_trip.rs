//! What goes in comes out, byte for byte, for each kind of source.

use std::fs;
use std::path::Path;

use muster_tests::fleet::{Fleet, text};
use muster_tests::tree;

fn database(path: &Path, rows: u32) {
    let mut db = rusqlite::Connection::open(path).expect("database");
    let insert = db.transaction().expect("transaction");
    insert.execute("create table if not exists t (id integer primary key, text text)", []).expect("table");
    for n in 0..rows {
        insert.execute("insert into t (text) values (?1)", [format!("row {n}")]).expect("row");
    }
    insert.commit().expect("commit");
}

fn rows(path: &Path) -> u32 {
    let db = rusqlite::Connection::open(path).expect("database");
    db.query_row("select count(*) from t", [], |row| row.get(0)).expect("count")
}

#[test]
fn once_and_recover_give_every_byte_of_each_kind_back() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::rich(&data.path().join("tree"));
    database(&data.path().join("orders.db"), 20_000);
    let says = r#"["sh","-c","seq 1 50000"]"#;
    let fleet = Fleet::init(&[
        format!("config=files:{}", text(&data.path().join("tree"))),
        format!("orders=sqlite:{}", text(&data.path().join("orders.db"))),
        format!("numbers=command:{says}"),
    ]);
    let said = fleet.run(&["once", &text(&fleet.dir()), "--json"]).with_code(0);
    assert_eq!(said.json()["outcome"], "complete");
    assert_eq!(said.json()["state"], "verified");

    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&data.path().join("tree"), &out.join("config/files"));
    assert_eq!(rows(&out.join("orders/sqlite/orders.db")), 20_000);
    let numbers = fs::read_to_string(out.join("numbers/command/output")).expect("the dump");
    assert_eq!(numbers.lines().count(), 50_000);
    assert!(numbers.ends_with("\n50000\n"));
}

#[test]
fn a_second_round_adds_what_changed_and_the_first_still_recovers() {
    let data = tempfile::TempDir::new().expect("folder");
    let source = data.path().join("tree");
    tree::small(&source, 1);
    for n in 0..20 {
        fs::write(source.join(format!("steady {n}")), tree::noise(1000 + n, 300_000)).expect("file");
    }
    let fleet = Fleet::init(&[format!("config=files:{}", text(&source))]);
    let once = || fleet.run(&["once", &text(&fleet.dir()), "--json"]).with_code(0).json();
    let first = once();
    let before = fleet.path("before");
    assert!(
        std::process::Command::new("cp").arg("-a").arg(&source).arg(&before).status().expect("cp").success()
    );
    fs::write(source.join("one"), b"changed").expect("file");
    fs::remove_file(source.join("sub/two")).expect("removed");
    let second = once();

    let added =
        |round: &serde_json::Value| round["services"][0]["added_bytes"].as_u64().expect("added_bytes");
    assert!(added(&first) > 6_000_000, "{first}");
    assert!(added(&second) < 200_000, "{second}");
    let out = fleet.path("second");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&source, &out.join("config/files"));
    let (share, kit, out) = (text(&fleet.share()), text(&fleet.kit()), fleet.path("first"));
    let args = ["recover", "--share", &share, "--kit", &kit, "--round", "1", "--into", &text(&out)];
    let _ = fleet.run(&args).with_code(0);
    tree::assert_same(&before, &out.join("config/files"));
}

#[test]
fn a_round_over_nats_is_verified_and_told() {
    let data = tempfile::TempDir::new().expect("folder");
    for name in ["a", "b", "c"] {
        tree::small(&data.path().join(name), u64::from(name.as_bytes()[0]));
    }
    let services: Vec<_> =
        ["a", "b", "c"].iter().map(|n| format!("{n}=files:{}", text(&data.path().join(n)))).collect();
    let mut fleet = Fleet::init(&services);
    fleet.up();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let show = fleet.run(&["show", "latest", "--json"]).with_code(0).json();
    assert_eq!((&show["state"], &show["outcome"]), (&"verified".into(), &"complete".into()), "{show}");
    assert_eq!(show["services"].as_array().map(Vec::len), Some(3));
    let _ = fleet.run(&["status"]).with_code(0);
    let agents = fleet.run(&["agents", "--json"]).with_code(0).json();
    assert_eq!(agents["agents"].as_array().map(Vec::len), Some(3), "{agents}");
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    for name in ["a", "b", "c"] {
        tree::assert_same(&data.path().join(name), &out.join(name).join("files"));
    }
}
