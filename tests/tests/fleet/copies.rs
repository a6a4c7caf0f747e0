//! A second share: copied, recovered from, and made the share when the first one is lost.

use std::fs;
use std::path::Path;

use muster_test_servers::{Samba, SeaweedFs};
use muster_tests::fleet::{Fleet, secret, text};
use muster_tests::tree;
use tempfile::TempDir;

/// Two rounds on a folder, their data beside it.
fn fleet_of_two_rounds(data: &Path) -> Fleet {
    let source = data.join("tree");
    tree::small(&source, 7);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&source))]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    fs::write(source.join("later"), b"later").expect("written");
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    fleet
}

#[test]
fn the_copy_becomes_the_share_when_the_first_one_is_lost() {
    let data = TempDir::new().expect("a folder");
    let mut fleet = fleet_of_two_rounds(data.path());
    let (copy, dir, kit) = (data.path().join("copy"), text(&fleet.dir()), text(&fleet.kit()));
    let url = text(&copy);
    let first = fleet.run(&["share", "copy", &url, "--json"]).with_code(0).json();
    assert_eq!(
        (&first["schema"], &first["newest_round"]),
        (&"muster.share-copy/1".into(), &2.into()),
        "{first}"
    );
    assert!(first["copied"]["objects"].as_u64() > Some(5) && first["present"]["objects"] == 0, "{first}");
    let again = fleet.run(&["share", "copy", &url]).with_code(0);
    assert!(again.out.contains("copied 0 objects") && again.out.contains("newest round on the copy: 2"));
    // It is read like the share, and takes no round.
    let _ = fleet.run(&["verify", "--share", &url, "--kit", &kit]).with_code(0);
    let onto = fleet.run(&["share", "copy", &text(&fleet.share())]).with_code(7);
    assert!(onto.err.contains("lie within each other"), "{}", onto.err);
    for place in [fleet.share().join("second"), fleet.share().parent().expect("a folder").to_owned()] {
        let within = fleet.run(&["share", "copy", &text(&place)]).with_code(7);
        assert!(within.err.contains("lie within each other"), "{}", within.err);
    }
    let used = fleet.run(&["share", "copy", &dir]).with_code(7);
    assert!(used.err.contains("is no copy, and holds other things"), "{}", used.err);
    fs::remove_dir_all(fleet.share()).expect("lost");
    fleet.set("MUSTER_SHARE_URL", &url);
    let refused = fleet.run(&["once", &dir]).with_code(7);
    assert!(refused.err.contains("SHARE-08") && refused.err.contains("adopt"), "{}", refused.err);
    let held = fleet.run(&["hold", "1", "--reason", "x"]).with_code(7);
    assert!(held.err.contains("muster adopt"), "{}", held.err);
    let before = data.path().join("before");
    let recover =
        |into: &Path| fleet.run(&["recover", "--share", &url, "--kit", &kit, "--into", &text(into)]);
    let _ = recover(&before).with_code(0);
    tree::assert_same(&data.path().join("tree"), &before.join("dns/files"));
    // The root makes it the share; agents, coordinators and operators go on there.
    let root = text(&fleet.root());
    let adopted = fleet.run(&["adopt", "--share", &url, "--root", &root, "--json"]).with_code(0).json();
    assert_eq!((&adopted["given_up"], &adopted["newest_round"]), (&serde_json::Value::Null, &2.into()));
    fs::write(data.path().join("tree/after"), b"after").expect("written");
    let _ = fleet.run(&["once", &dir]).with_code(0);
    let _ = fleet.run(&["verify", "--kit", &kit]).with_code(0);
    let after = data.path().join("after");
    let _ = recover(&after).with_code(0);
    tree::assert_same(&data.path().join("tree"), &after.join("dns/files"));
    // And has a copy of its own again.
    let second = text(&data.path().join("second"));
    let _ = fleet.run(&["share", "copy", &second]).with_code(0);
    let _ = fleet.run(&["verify", "--share", &second, "--kit", &kit]).with_code(0);
}

/// The share is there, and an operator's configuration names the copy: what is asked for would happen on the share, and never be
/// seen on the copy.
#[test]
fn commands_that_change_something_are_refused_on_a_copy_before_anything_is_sent() {
    let data = TempDir::new().expect("a folder");
    let mut fleet = fleet_of_two_rounds(data.path());
    let (copy, kit) = (text(&data.path().join("copy")), text(&fleet.kit()));
    let share = text(&fleet.share());
    let _ = fleet.run(&["share", "copy", &copy]).with_code(0);
    let empty = data.path().join("credentials");
    secret(&empty, "x");
    let into = text(&data.path().join("into"));
    let changing: [&[&str]; 12] = [
        &["start", "--wait"],
        &["cancel", "latest"],
        &["prune"],
        &["hold", "1", "--reason", "x"],
        &["unhold", "1"],
        &["config", "set", "share_days", "30"],
        &["enable"],
        &["disable", "--reason", "x"],
        &["restore", "--service", "dns", "--kit", &kit, "--into", &into, "latest"],
        &["verify", "--heal"],
        &["drill", "--kit", &kit, "--into", &into],
        &["share", "credentials", "--forget"],
    ];
    let refused = |fleet: &Fleet| {
        for command in changing {
            let said = fleet.run(command).with_code(7);
            assert!(said.err.contains("SHARE-08") && said.err.contains("is a copy"), "{command:?}: {said:?}");
            assert!(!said.err.contains("BUS-01"), "nobody was asked: {command:?}: {said:?}");
        }
    };
    fleet.set("MUSTER_SHARE_URL", &copy);
    refused(&fleet);
    // The test of a share says what a coordinator would, and names its exit code.
    let said = fleet.run(&["share", "test", "--size", "0B"]).with_code(7);
    assert!(said.out.contains("SHARE-08") && said.out.contains("do not start on it"), "{said:?}");
    let said = fleet.run(&["share", "test", "--share", &copy, "--size", "0B", "--json"]).with_code(7).json();
    assert_eq!(said["verdict"], "bad", "{said}");
    let _ = fleet.run(&["status"]);
    let _ = fleet.run(&["verify"]).with_code(0);
    // A round more on the share that this operator hears of: the copy lags behind, and nothing is gone.
    fleet.set("MUSTER_SHARE_URL", &share);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    fleet.set("MUSTER_SHARE_URL", &copy);
    let said = fleet.run(&["rounds"]).with_code(4);
    assert!(said.err.contains("is a copy") && said.err.contains("lags behind"), "{}", said.err);
    assert!(!said.err.contains("are gone for good"), "{}", said.err);
    refused(&fleet);
}

#[test]
fn a_copy_that_cannot_be_made_is_told() {
    let data = TempDir::new().expect("a folder");
    let fleet = fleet_of_two_rounds(data.path());
    let file = data.path().join("file");
    fs::write(&file, b"x").expect("written");
    let other = Fleet::init(&[format!("dns=files:{}", text(&data.path().join("tree")))]);
    let nowhere = data.path().join("no/such/parent");
    for (to, code, word) in [
        (text(&file), 2, "file"),
        (text(&nowhere), 6, "SHARE-"),
        (text(&other.share()), 7, "another fleet"),
        ("gs://bucket".to_owned(), 2, "s3"),
        ("s3://bucket?endpoint=http://127.77.0.1:1".to_owned(), 6, "SHARE-03"),
    ] {
        let said = fleet.run(&["share", "copy", &to]).with_code(code);
        assert!(said.err.contains(word), "{to}: {}", said.err);
    }
    let _ = other.run(&["verify"]).with_code(0);
}

/// Copies the fleet's folder to another kind of share, and recovers from there.
fn copied_to(url: &str, credentials: &str) {
    let data = TempDir::new().expect("a folder");
    let fleet = fleet_of_two_rounds(data.path());
    let file = data.path().join("copy.credentials");
    secret(&file, credentials);
    let secret = text(&file);
    let to = ["share", "copy", url, "--to-credentials", &secret];
    let _ = fleet.run(&to).with_code(0);
    let again = fleet.run(&to).with_code(0);
    assert!(again.out.contains("copied 0 objects"), "{}", again.out);
    let into = data.path().join("recovered");
    let (kit, at) = (text(&fleet.kit()), text(&into));
    let recover = ["recover", "--share", url, "--share-credentials", &secret, "--kit", &kit, "--into", &at];
    let _ = fleet.run(&recover).with_code(0);
    tree::assert_same(&data.path().join("tree"), &into.join("dns/files"));
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_copy_on_s3() {
    let server = SeaweedFs::start();
    copied_to(&server.url("fleets/copy"), &SeaweedFs::credentials("admin"));
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_copy_on_smb() {
    let server = Samba::start();
    copied_to(&server.url("fleet"), &Samba::credentials("agent"));
}
