//! Whole fleets whose share is no folder: founded, backed up, tested, verified and recovered. `./x test --servers` runs
//! those that need a server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use muster_test_servers::{Azurite, Domain, Mount, Samba, SeaweedFs};
use muster_tests::fleet::{Fleet, secret, text};
use muster_tests::process::muster;
use muster_tests::tree;
use tempfile::TempDir;

/// From `init` to a compared recovery, two rounds, with this share.
fn whole_fleet(url: &str, credentials: &str) {
    let folder = TempDir::with_prefix("muster-").expect("a folder");
    let at = |name: &str| text(&folder.path().join(name));
    let source = folder.path().join("tree");
    tree::small(&source, 5);
    secret(&folder.path().join("share.credentials"), credentials);
    let with = ["--share-credentials", &at("share.credentials")];
    let service = format!("dns=files:{}", text(&source));
    let mut init = vec!["init", "f", "--fleet", "test", "--share", url, "--kit", "k", "--service", &service];
    let (dir, kit) = (at("fleet"), at("kit"));
    init[1] = &dir;
    init[7] = &kit;
    let said = muster(init.iter().chain(&with)).with_code(0);
    assert!(!said.out.contains("assword") && !said.out.contains("SKADMIN"), "{}", said.out);
    let operator = fs::read_to_string(folder.path().join("fleet/operator.toml")).expect("a configuration");
    assert!(operator.contains(&at("share.credentials")), "{operator}");
    // From here on the configurations name the file.
    let config = at("fleet/operator.toml");
    let _ = muster(["once", &dir]).with_code(0);
    fs::write(source.join("later"), b"later").expect("written");
    let _ = muster(["once", &dir]).with_code(0);
    let rounds = muster(["rounds", "--json", "--config", &config]).with_code(0).json();
    assert_eq!(rounds["rounds"].as_array().map(Vec::len), Some(2), "{rounds}");
    let tested =
        muster(["share", "test", "--json", "--size", "13MiB", "--config", &config]).with_code(0).json();
    assert_eq!((&tested["left"], &tested["schema"]), (&0.into(), &"muster.share-test/1".into()), "{tested}");
    assert!(tested["needed_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{tested}");
    let bad = tested["findings"].as_array().expect("findings").iter().find(|line| line["verdict"] == "bad");
    assert_eq!(bad, None, "{tested}");
    let _ = muster(["verify", "--kit", &kit, "--config", &config]).with_code(0);
    let _ = muster(["prune", "--dry-run", "--config", &config]).with_code(0);
    // After the loss of everything else: address, credentials and kit are enough.
    fs::remove_dir_all(folder.path().join("fleet")).expect("lost");
    let into = at("recovered");
    let recover = ["recover", "--share", url, "--kit", &kit, "--into", &into];
    let without = muster(recover);
    assert!(without.code != 0, "without credentials: {}", without.out);
    let _ = fs::remove_dir_all(&into);
    let _ = muster(recover.iter().chain(&with)).with_code(0);
    tree::assert_same(&source, &folder.path().join("recovered/dns/files"));
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_fleet_on_s3() {
    let server = SeaweedFs::start();
    whole_fleet(&server.url("fleets/one"), &SeaweedFs::credentials("admin"));
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_fleet_on_azure() {
    let server = Azurite::start();
    whole_fleet(&server.url("backups", "fleets/one"), &Azurite::credentials());
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_fleet_on_smb() {
    let server = Samba::start();
    whole_fleet(&server.url("fleet"), &Samba::credentials("agent"));
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_fleet_on_smb_where_names_become_capitals() {
    let server = Samba::start();
    whole_fleet(&server.url_of("capitals", "fleet"), &Samba::credentials("agent"));
    assert!(server.disk("capitals").join("FLEET/AGENTS/DNS/PACKS").exists(), "they did");
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_fleet_with_an_account_of_a_domain() {
    let domain = Domain::start();
    let folder = domain.disk().join("fleet");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("opened");
    let [.., principal] = Domain::spellings("agent");
    whole_fleet(&domain.url("fleet/one"), &principal);
}

#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_fleet_on_a_folder_that_ignores_and_changes_case() {
    let (data, share) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let _mount = Mount::ignoring_case(share.path());
    let source = data.path().join("tree");
    tree::small(&source, 6);
    let fleet = Fleet::init_on(&share.path().join("fleet"), &[format!("dns=files:{}", text(&source))]);
    for round in 1..=2 {
        fs::write(source.join("later"), format!("{round}")).expect("written");
        let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    }
    let tested = fleet.run(&["share", "test", "--json", "--size", "1MiB"]).with_code(0).json();
    let bad = tested["findings"].as_array().expect("findings").iter().find(|line| line["verdict"] == "bad");
    assert_eq!((bad, &tested["left"]), (None, &0.into()), "{tested}");
    let _ = fleet.run(&["verify", "--kit", &text(&fleet.kit())]).with_code(0);
    let _ = fleet.run(&["prune", "--dry-run"]).with_code(0);
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&source, &out.join("dns/files"));
}

/// What no coordinator would start on is no share that rounds can use.
#[test]
fn the_test_of_a_share_says_what_a_coordinator_would() {
    let data = TempDir::new().expect("a folder");
    let source = data.path().join("tree");
    tree::small(&source, 6);
    let services = [format!("dns=files:{}", text(&source))];
    let (mut fleet, other) = (Fleet::init(&services), Fleet::init(&services));
    let dir = text(&fleet.dir());
    let test = ["share", "test", "--size", "0B"];
    // The share went back behind what this operator has seen.
    let before = data.path().join("before");
    let copied = Command::new("cp").arg("-a").args([&fleet.share(), &before]).status().expect("cp runs");
    assert!(copied.success());
    let _ = fleet.run(&["once", &dir]).with_code(0);
    let _ = fleet.run(&test).with_code(0);
    let empty = data.path().join("empty");
    fs::create_dir(&empty).expect("made");
    for (share, code, word) in
        [(&empty, 2, "SHARE-02"), (&other.share(), 4, "SHARE-08"), (&before, 4, "SHARE-08")]
    {
        fleet.set("MUSTER_SHARE_URL", &text(share));
        let said = fleet.run(&test).with_code(code);
        assert!(said.err.contains(word), "{}: {said:?}", share.display());
        let said = fleet.run(&["once", &dir]);
        assert!(said.code == code && said.err.contains(word), "{}: {said:?}", share.display());
    }
    assert_eq!(
        fs::read_dir(&empty).expect("a folder").count(),
        0,
        "nothing is written to an empty mount point"
    );
    // A place for a fleet that is to come is fine, and empty as it was.
    let said = muster(["share", "test", "--size", "1MiB", "--share", &text(&empty)]).with_code(0);
    assert!(said.out.contains("as it was before"), "{}", said.out);
    assert_eq!(fs::read_dir(&empty).expect("a folder").count(), 0);
}

#[test]
fn a_share_is_tested_and_left_as_it_was() {
    let data = TempDir::new().expect("a folder");
    let source = data.path().join("tree");
    tree::small(&source, 6);
    let fleet = Fleet::init_with_coordinators(2, &[format!("dns=files:{}", text(&source))]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let said = fleet.run(&["share", "test", "--json", "--size", "1MiB"]).with_code(0).json();
    assert_eq!((&said["coordinators"], &said["left"]), (&2.into(), &0.into()), "{said}");
    let verdict = |check: &str| {
        let lines = said["findings"].as_array().expect("findings");
        lines.iter().find(|line| line["check"] == check).map(|line| line["verdict"].clone())
    };
    assert_eq!(verdict("exclusive"), Some("good".into()), "{said}");
    assert_eq!(verdict("delete"), Some("warning".into()), "a folder protects nothing: {said}");
    assert_eq!(fs::read_dir(fleet.share().join("probe")).expect("a folder").count(), 0);
    let _ = fleet.run(&["verify", "--kit", &text(&fleet.kit())]).with_code(0);
}

#[test]
fn addresses_and_credentials_that_cannot_be_are_told() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    secret(&at("wrong"), "user = me\npassword = hunter2\n");
    secret(&at("loose"), "access_key_id = a\nsecret_access_key = hunter2\n");
    fs::set_permissions(at("loose"), fs::Permissions::from_mode(0o644)).expect("opened");
    let s3 = "s3://bucket?endpoint=http://127.0.0.1:1";
    for (url, file, code, word) in [
        ("smb://me:hunter2@nas/backups", None, 2, "[share] credentials"),
        ("gs://bucket", None, 2, "s3"),
        ("smb://nas", None, 2, "smb://nas.example.org"),
        (s3, Some("wrong"), 5, "access_key_id"),
        (s3, Some("loose"), 5, "chmod 600"),
        (s3, Some("missing"), 5, "missing"),
    ] {
        let mut args = vec!["share".to_owned(), "test".into(), "--share".into(), url.into()];
        args.extend(file.into_iter().flat_map(|file| ["--share-credentials".to_owned(), text(&at(file))]));
        let said = muster(&args).with_code(code);
        assert!(said.err.contains(word), "{url}: {}", said.err);
        assert!(!said.err.contains("hunter2"), "{url}: {}", said.err);
    }
}

/// A fleet whose every writer locks: what its rounds need cannot be deleted, what no round needs any more is told and stays
/// until its time, and nothing is counted as deleted that is not.
#[test]
#[ignore = "needs servers: ./x test --servers"]
fn servers_a_fleet_whose_share_locks_what_it_is_given() {
    let server = SeaweedFs::start();
    server.make_locked("locked");
    let data = TempDir::new().expect("a folder");
    let source = data.path().join("tree");
    tree::small(&source, 9);
    let url = format!("s3://locked/fleet?endpoint=http://localhost:{}", server.port());
    let services = [format!("dns=files:{}", text(&source))];
    let mut fleet = Fleet::init_at(&url, &SeaweedFs::credentials("admin"), &services);
    fleet.set("MUSTER_SHARE_LOCK", "2d");
    let tested = fleet.run(&["share", "test", "--json", "--size", "1MiB"]).with_code(0).json();
    let lock = tested["findings"].as_array().expect("findings").iter().find(|line| line["check"] == "lock");
    assert_eq!(lock.map(|line| &line["verdict"]), Some(&"good".into()), "{tested}");
    assert_eq!(tested["left"], 0, "its own locks are short, and it waits for them: {tested}");
    for (key, value) in [("keep_days", "0"), ("min_verified", "1"), ("keep_last", "1"), ("grace", "0s")] {
        let _ = fleet.run(&["config", "set", &format!("retention.{key}"), value]).with_code(0);
    }
    let dir = text(&fleet.dir());
    for round in 1..=2 {
        tree::small(&source, 100 * round);
        let _ = fleet.run(&["once", &dir]).with_code(0);
    }
    // The share was founded without a lock: the first prune gives it one. The rest was written with one.
    let first = fleet.run(&["prune", "--json"]).with_code(0).json();
    let locks = &first["locks"];
    assert!(locks["renewed"].as_u64().is_some_and(|count| count >= 1), "{first}");
    assert!(locks["lasting"].as_u64().is_some_and(|count| count >= 10), "{first}");
    assert_eq!((&locks["missing"], &locks["failed"]), (&0.into(), &0.into()), "{first}");
    let kept = first["marked"]["locked"]["objects"].as_u64().expect("what no round needs is locked");
    assert!(kept >= 5, "packs, lists, receipt, manifest of the first round: {first}");
    let second = fleet.run(&["prune", "--json"]).with_code(0).json();
    assert_eq!(second["locks"]["renewed"], 0, "once is enough: {second}");
    for swept in second["swept"].as_array().expect("a list") {
        assert!(swept["objects"].as_u64().is_some_and(|count| count < kept), "{second}");
    }
    let still = second["locked"]["objects"].as_u64();
    // The locks of what the tests of the share wrote before each round were short, and may be over.
    assert!(still >= Some(5), "what the first round alone needed is there yet: {second}");
    let said = fleet.run(&["prune"]).with_code(0);
    assert!(said.out.contains("by a lock until 20"), "{}", said.out);
    let credentials = text(&fleet.path("share.credentials"));
    let kit = text(&fleet.kit());
    let verify = ["verify", "--share", &url, "--share-credentials", &credentials, "--kit", &kit];
    let _ = fleet.run(&verify).with_code(0);
}

#[test]
fn a_lock_that_cannot_be_is_told_with_the_key() {
    let data = TempDir::new().expect("a folder");
    tree::small(&data.path().join("tree"), 4);
    let mut fleet = Fleet::init(&[format!("dns=files:{}", text(&data.path().join("tree")))]);
    fleet.set("MUSTER_SHARE_LOCK", "30d");
    let said = fleet.run(&["share", "test"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("[share] lock") && said.err.contains("Object Lock"), "{}", said.err);
    for wrong in ["30", "1h", "100000d"] {
        fleet.set("MUSTER_SHARE_LOCK", wrong);
        let said = fleet.run(&["share", "test"]);
        assert_eq!(said.code, 2, "{wrong}: {}", said.err);
        assert!(said.err.contains("MUSTER_SHARE_LOCK"), "{wrong}: {}", said.err);
    }
}
