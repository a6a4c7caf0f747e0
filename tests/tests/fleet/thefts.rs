//! Rows of the threat model in which something is stolen or lost: what the thief reads, and what still goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_protocol::age::{FileKey, Identity, parse_header};
use muster_protocol::envelope::Signer;
use muster_protocol::pem;
use muster_share::entropy::OsEntropy;
use muster_share::secret_file;
use muster_tests::fleet::{Fleet, text};
use muster_tests::hand::Hand;
use muster_tests::process::have;
use muster_tests::secrets::{Secrets, files, keys_of};
use muster_tests::tree;

struct Case {
    fleet: Fleet,
    data: tempfile::TempDir,
}

/// Two services, a round of each, and a restore of the first: everything that a share ever holds.
fn case() -> Case {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    tree::small(&data.path().join("other"), 5);
    let mut fleet = Fleet::init(&[
        format!("config=files:{}", text(&data.path().join("tree"))),
        format!("orders=files:{}", text(&data.path().join("other"))),
    ]);
    fleet.up();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let kit = text(&fleet.kit());
    let restore = ["restore", "1", "--service", "config", "--kit", &kit, "--existing", "replace"];
    let _ = fleet.run(&restore).with_code(0);
    Case { fleet, data }
}

/// Every `.age` file of a share, and those named otherwise that are sealed, too.
fn sealed(share: &Path) -> Vec<PathBuf> {
    let starts =
        |file: &PathBuf| fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"age-encryption.org/v1"));
    files(share).into_iter().filter(starts).collect()
}

/// What a thief makes of a stolen key: every 32 secret bytes are tried as a private key of age.
fn identities(stolen: &[PathBuf]) -> Vec<(String, Identity)> {
    let mut identities = Vec::new();
    for file in stolen {
        let bytes = fs::read(file).expect("a stolen file");
        for key in keys_of(&bytes) {
            let raw: [u8; 32] = key.try_into().expect("a key has 32 bytes");
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            identities.push((name, Identity::parse(&bech32(&raw)).expect("any 32 bytes are a private key")));
        }
    }
    identities
}

/// The bytes as `AGE-SECRET-KEY-1…`, as the stock tools write it.
fn bech32(raw: &[u8; 32]) -> String {
    muster_tests::secrets::age_identity(raw)
}

/// The key of a sealed object, if one of these opens it.
fn file_key(object: &Path, keys: &[Identity]) -> Option<FileKey> {
    let bytes = fs::read(object).expect("an object");
    parse_header(&bytes).ok()?.0.unwrap(keys).ok()
}

/// Tries keys on every sealed object, with our own opener and with the stock tool; which objects open.
fn opened(share: &Path, keys: Vec<(String, Identity)>) -> Vec<String> {
    let objects = sealed(share);
    assert!(objects.len() >= 7, "two slices and a grant: {objects:?}");
    let dir = tempfile::TempDir::new().expect("folder");
    let mut opened = Vec::new();
    for (name, identity) in keys {
        let file = dir.path().join("identity");
        fs::write(&file, identity.to_file_text("now").as_bytes()).expect("written");
        let identity = [identity];
        for object in &objects {
            let ours = file_key(object, &identity).is_some();
            if have("age") {
                let mut age = Command::new("age");
                age.arg("-d").arg("-i").arg(&file).arg("-o").arg(dir.path().join("out")).arg(object);
                let theirs = age.output().expect("age runs").status.success();
                assert_eq!(ours, theirs, "{name} on {}", object.display());
            }
            if ours {
                let object = object.strip_prefix(share).expect("of the share");
                opened.push(format!("{name} opens {}", object.display()));
            }
        }
    }
    opened
}

/// Everything that lies on the machine of a member: its configuration, its keys, its state.
fn machine(fleet: &Fleet, keys: &str, state: &str) -> Vec<PathBuf> {
    let own = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(keys));
    let mut found: Vec<_> = files(&fleet.dir().join("keys")).into_iter().filter(own).collect();
    assert!(!found.is_empty(), "{keys} has keys");
    found.extend(files(&fleet.dir().join("state").join(state)));
    found
}

#[test]
fn a_stolen_agent() {
    let case = case();
    let share = case.fleet.share();
    let machine = machine(&case.fleet, "agent-config.", "agent-config");
    let keys = identities(&machine);
    // Signing key, sealing key, chunk key: all of the key files gave one.
    assert!(keys.len() >= 3, "{machine:?}");
    let opened = opened(&share, keys);
    assert!(!opened.is_empty(), "its own chunk index is its own");
    for object in opened {
        let own = object.starts_with("agent-config.sealing opens agents/config/slices/");
        assert!(own && object.ends_with(".chunks"), "{object}");
    }
    // The recovery key does open all of it: the objects are what they are taken for.
    let kit = secret_file::read_identities(&case.fleet.kit().join("recovery.key")).expect("the kit");
    let all = sealed(&share);
    let open = all.iter().filter(|file| file_key(file, &kit).is_some()).count();
    assert_eq!(open, all.len() - 1, "all but the grant, which was for the agent's key of that one restore");
    // No state holds what would open more: neither file keys nor anything of other services.
    let mut secrets = Secrets::default();
    for file in &all {
        if let Some(key) = file_key(file, &kit) {
            secrets.key(&text(file), key.expose());
        }
    }
    for file in &machine {
        let found = secrets.found_in(&fs::read(file).expect("a file"));
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

#[test]
fn a_stolen_coordinator() {
    let case = case();
    let machine = machine(&case.fleet, "coordinator.", "coordinator");
    let keys = identities(&machine);
    assert!(keys.len() >= 2, "its signing key, and the one that opens the fleet's sealed configuration");
    let opened = opened(&case.fleet.share(), keys);
    assert!(!opened.is_empty(), "the configuration");
    for object in opened {
        assert!(object.starts_with("coordinator.sealing opens lists/"), "{object}");
    }
}

#[test]
fn a_stolen_configuration() {
    let case = case();
    let (fleet, thief) = (&case.fleet, case.data.path().join("thief"));
    let mut secrets = Secrets::default();
    for folder in [fleet.dir(), fleet.kit(), fleet.root()] {
        assert!(secrets.keys_below(&folder) > 0, "{} holds keys", folder.display());
    }
    // Every configuration of the fleet, where `init` and the others wrote it, and nothing else.
    let configuration = |file: &PathBuf| file.extension().is_some_and(|e| e == "toml" || e == "conf");
    let stolen: Vec<_> = files(&fleet.dir()).into_iter().filter(configuration).collect();
    assert!(stolen.len() >= 5, "{stolen:?}");
    for file in &stolen {
        let bytes = fs::read(file).expect("a configuration");
        assert_eq!(secrets.found_in(&bytes), Vec::<String>::new(), "{}", file.display());
        let to = thief.join(file.strip_prefix(fleet.dir()).expect("of the fleet"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
        fs::copy(file, to).expect("copied");
    }
    fs::write(thief.join("lock"), b"").expect("a file that holds nothing");
    // With these alone nobody signs: each names key files that are elsewhere.
    let config = text(&thief.join("operator.toml"));
    let kit = text(&fleet.kit());
    let before = Hand::of(fleet).state.next;
    for args in [
        vec!["restore", "1", "--service", "config", "--kit", &kit, "--config", &config],
        vec!["once", &text(&thief)],
        vec!["daemon", "agent", "--config", &text(&thief.join("agents/config.toml"))],
        vec!["daemon", "coordinator", "--config", &text(&thief.join("coordinator.toml"))],
    ] {
        let said = fleet.run(&args).with_code(2);
        assert!(said.err.contains(".key") && said.err.contains("missing"), "{args:?}: {}", said.err);
    }
    let nowhere = text(&thief);
    let said = fleet.run(&["revoke", "orders", "--root", &nowhere, "--config", &config]);
    assert!(said.code == 5 && said.err.contains("root.key"), "{} {}", said.code, said.err);
    assert_eq!(Hand::of(fleet).state.next, before, "nothing was appended");
}

#[test]
fn a_lost_recovery_key() {
    let case = case();
    let (fleet, root, share) = (&case.fleet, text(&case.fleet.root()), text(&case.fleet.share()));
    let escrow = case.data.path().join("escrow");
    fs::create_dir(&escrow).expect("folder");
    let key = text(&escrow.join("recovery.key"));
    let said = fleet.run(&["key", "generate", "--out", &key]).with_code(0);
    let recipient = said.out.split_whitespace().find(|word| word.starts_with("age1")).expect("its recipient");
    let kit = text(&case.data.path().join("kit-2"));
    let rotate = ["key", "rotate", "--root", &root, "--kit", &kit, "--recipient", recipient];
    let _ = fleet.run(&rotate).with_code(0);
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    // The kit is lost. What was put into escrow opens the round all the same.
    fs::copy(fleet.kit().join("root.pub"), escrow.join("root.pub")).expect("copied");
    fs::remove_dir_all(&kit).expect("lost");
    let recover = |kit: &Path, round: &str, into: &Path, code: i32| {
        let (kit, into) = (text(kit), text(into));
        fleet
            .run(&["recover", "--share", &share, "--kit", &kit, "--round", round, "--into", &into])
            .with_code(code)
    };
    let out = case.data.path().join("out");
    let _ = recover(&escrow, "2", &out, 0);
    tree::assert_same(&case.data.path().join("tree"), &out.join("config/files"));
    // It opens no round of before it was named, and another key opens none: not a byte is written.
    let none = case.data.path().join("none");
    let said = recover(&escrow, "1", &none, 5);
    assert!(said.err.contains("does not open round 1"), "{}", said.err);
    let other = Identity::generate(&mut OsEntropy);
    let stranger = case.data.path().join("stranger");
    fs::create_dir(&stranger).expect("folder");
    fs::copy(fleet.kit().join("root.pub"), stranger.join("root.pub")).expect("copied");
    secret_file::create(&stranger.join("recovery.key"), other.to_file_text("now").as_bytes())
        .expect("written");
    for round in ["1", "2"] {
        let _ = recover(&stranger, round, &none, 5);
    }
    assert!(!none.exists());
    assert_eq!(opened(&fleet.share(), vec![("stranger".to_owned(), other)]), Vec::<String>::new());
}

#[test]
fn a_lost_root() {
    let case = case();
    let fleet = &case.fleet;
    fs::remove_dir_all(fleet.root()).expect("lost");
    // Backups and recoveries go on: neither needs it.
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let out = case.data.path().join("out");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&case.data.path().join("tree"), &out.join("config/files"));
    let kit = text(&fleet.kit());
    let restore = ["restore", "2", "--service", "config", "--kit", &kit, "--existing", "replace"];
    let _ = fleet.run(&restore).with_code(0);
    // Keys and members stay as they are: nobody else's signature does, and nothing is appended.
    let other = case.data.path().join("other-root");
    fs::create_dir(&other).expect("folder");
    let signer = Signer::from_seed(&[9; 32]);
    secret_file::create(&other.join("root.key"), pem::signing_key_to_pem(&signer).as_bytes())
        .expect("written");
    let (lost, other) = (text(&fleet.root()), text(&other));
    let (new, into) = (text(&case.data.path().join("kit-2")), text(&case.data.path().join("made")));
    let source = format!("files:{}", text(&case.data.path().join("tree")));
    let before = Hand::of(fleet).state.next;
    for (root, codes) in [(&lost, [2, 5]), (&other, [5, 7])] {
        for args in [
            vec!["key", "rotate", "--root", root, "--kit", &new],
            vec!["enroll", "dns", "--root", root, "--source", &source, "--into", &into],
            vec!["revoke", "config", "--root", root],
        ] {
            let said = fleet.run(&args);
            assert!(codes.contains(&said.code), "{args:?}: {} {}{}", said.code, said.out, said.err);
        }
    }
    assert_eq!(Hand::of(fleet).state.next, before, "nothing was appended");
}
