//! Bad input: one error with file, key and next step, the right exit code, and nothing half done.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, muster};
use muster_tests::tree;

fn simple() -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 1);
    (Fleet::init(&[format!("config=files:{}", text(&data.path().join("tree")))]), data)
}

fn assert_says(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{}{}", said.out, said.err);
    for word in words {
        assert!(said.err.contains(word), "{word:?} is missing:\n{}", said.err);
    }
    let errors = said.err.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(errors, 1, "one error:\n{}", said.err);
}

#[test]
fn a_configuration_with_a_mistake_is_named_by_file_and_key() {
    let (fleet, _data) = simple();
    let once = || fleet.run(&["once", &text(&fleet.dir())]);
    let file = fleet.dir().join("coordinator.toml");
    let good = fs::read_to_string(&file).expect("file");
    for (from, to, words) in [
        ("[round]\n", "[round]\nrecrut = \"5s\"\n", ["coordinator.toml", "recrut"]),
        ("attempts = 3", "attempts = \"three\"", ["coordinator.toml", "attempts"]),
        ("deadline = \"4h\"", "deadline = \"4 parsecs\"", ["coordinator.toml", "deadline"]),
    ] {
        assert!(good.contains(from), "{from:?} is not in\n{good}");
        fs::write(&file, good.replacen(from, to, 1)).expect("file");
        assert_says(&once(), 2, &words);
    }
    fs::remove_file(&file).expect("removed");
    assert_says(&once(), 2, &["coordinator.toml"]);
    fs::write(&file, good).expect("file");

    let agent = fleet.dir().join("agents/config.toml");
    let good = fs::read_to_string(&agent).expect("file");
    let source = good.split("[[source]]").nth(1).expect("a source");
    fs::write(&agent, format!("{good}\n[[source]]{source}")).expect("file");
    assert_says(&once(), 2, &["config.toml", "same"]);
    fs::write(&agent, good).expect("file");
    let _ = once().with_code(0);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (fleet, _data) = simple();
    let key = fleet.dir().join("keys/coordinator.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("mode");
    assert_says(&fleet.run(&["once", &text(&fleet.dir())]), 2, &["chmod 600", &text(&key)]);
}

#[test]
fn init_refuses_and_leaves_nothing_behind() {
    let folder = tempfile::TempDir::new().expect("folder");
    let at = |name: &str| text(&folder.path().join(name));
    tree::small(&folder.path().join("tree"), 1);
    let files = format!("files:{}", at("tree"));
    let (fleet, share, kit) = (at("fleet"), at("share"), at("kit"));
    let with = |services: &[String], kit: &str| {
        let mut args = vec![
            "init".to_owned(),
            fleet.clone(),
            "--fleet".into(),
            "test".into(),
            "--share".into(),
            share.clone(),
        ];
        if !kit.is_empty() {
            args.extend(["--kit".into(), kit.to_owned()]);
        }
        for service in services {
            args.extend(["--service".into(), service.clone()]);
        }
        muster(&args)
    };
    let inside = format!("{fleet}/kit");
    for (services, kit, word) in [
        (vec![format!("Config={files}")], kit.as_str(), "Config"),
        (vec![format!("config=fils:{}", at("tree"))], &kit, "fils"),
        (vec![format!("config={files}"), format!("config={files}")], &kit, "same"),
        (vec![format!("config={files}")], &inside, "outside"),
        (vec![format!("config={files}")], "", "--kit"),
    ] {
        let said = with(&services, kit);
        assert_says(&said, 2, &[word]);
        let left: Vec<_> =
            fs::read_dir(folder.path()).expect("folder").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(left, ["tree"], "{services:?}: nothing half done");
    }
    let _ = with(&[format!("config={files}")], &kit).with_code(0);
    assert_says(&with(&[format!("config={files}")], &at("kit-2")), 2, &["fleet"]);
    let key = format!("{kit}/recovery.key");
    let recover = muster(["recover", "--share", &share, "--kit", &key, "--into", &at("out")]);
    assert_says(&recover, 2, &["recovery.key is a file", &format!("--kit {kit}")]);
    let secret = format!("AGE-SECRET-KEY-1{}", "Q".repeat(58));
    let said = muster(["hold", "1", "--reason", &secret]);
    assert_says(&said, 2, &["argument number 4 holds a private key"]);
    assert!(!said.err.contains(&secret[..24]) && !said.out.contains(&secret[..24]), "{}", said.err);
    assert_says(
        &muster(["status", "--config", "/dev/zero"]),
        2,
        &["/dev/zero", "--config DIR/operator.toml"],
    );
}

#[test]
fn the_wrong_recovery_key_writes_nothing() {
    let (fleet, _data) = simple();
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let other = fleet.path("other.key");
    let _ = fleet.run(&["key", "generate", "--out", &text(&other)]).with_code(0);
    fs::remove_file(fleet.kit().join("recovery.key")).expect("removed");
    fs::copy(&other, fleet.kit().join("recovery.key")).expect("copied");
    let out = fleet.path("out");
    assert_says(&fleet.recover(&out), 5, &["recovery"]);
    assert!(!out.exists());
    fs::remove_file(fleet.kit().join("recovery.key")).expect("removed");
    assert_says(&fleet.recover(&out), 5, &["recovery.key"]);
    assert!(!out.exists());
}

#[test]
fn an_absent_bus_or_share_is_exit_6() {
    let (fleet, _data) = simple();
    assert_says(&fleet.run(&["start"]), 6, &["BUS-01"]);
    fs::rename(fleet.share(), fleet.path("elsewhere")).expect("moved");
    assert_says(&fleet.run(&["rounds"]), 6, &["SHARE-01"]);
    assert_says(&fleet.recover(&fleet.path("out")), 6, &["SHARE-01"]);
    assert!(!fleet.path("out").exists());
}

#[test]
fn a_running_fleet_keeps_once_out() {
    let (mut fleet, _data) = simple();
    fleet.up();
    muster_tests::process::wait_for("the leader answers", || {
        (fleet.run(&["status", "--json"]).json()["leader"] != serde_json::Value::Null).then_some(())
    });
    assert_says(&fleet.run(&["once", &text(&fleet.dir())]), 7, &["lock"]);
}

/// A server that introduces itself with this version and then says nothing.
fn server_of_version(version: &'static str) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut client in listener.incoming().flatten() {
            let info = format!(
                "INFO {{\"server_id\":\"x\",\"server_name\":\"x\",\"version\":\"{version}\",\"proto\":1,\"go\":\"x\",\
                 \"host\":\"127.0.0.1\",\"port\":{port},\"headers\":true,\"max_payload\":1048576,\"jetstream\":true}}\r\n"
            );
            let _ = client.write_all(info.as_bytes());
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    if buffer[..read].windows(4).any(|w| w == b"PING") {
                        let _ = client.write_all(b"PONG\r\n");
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_server_that_is_too_old_is_named_with_its_version() {
    let (mut fleet, _data) = simple();
    let port = server_of_version("2.9.10");
    fleet.set("MUSTER_NATS_URL", &format!("nats://127.0.0.1:{port}"));
    fleet.set("MUSTER_NATS_CA", "");
    assert_says(&fleet.run(&["start"]), 6, &["2.9.10", "2.12.12"]);
}
