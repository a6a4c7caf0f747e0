//! Keys that the service manager hands over (`LoadCredential=`): `credential:NAME` in a configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, binaries};
use muster_tests::tree;

fn edit(file: &Path, changes: &[(&str, &str)]) {
    let mut config = fs::read_to_string(file).expect("a configuration");
    for (from, to) in changes {
        assert!(config.contains(from), "{from} is in {config}");
        config = config.replace(from, to);
    }
    fs::write(file, config).expect("written");
}

/// A file as systemd makes it for a unit with `User=`: the group's bits show its access-control list.
fn hand_over(from: &Path, to: &Path) {
    fs::copy(from, to).expect("copied");
    fs::set_permissions(to, fs::Permissions::from_mode(0o440)).expect("mode");
}

fn agent(fleet: &Fleet, credentials: Option<&Path>) -> Said {
    let mut command = Command::new(binaries().join("muster-agent"));
    command.arg("--config").arg(fleet.dir().join("agents/config.toml")).stdin(Stdio::null());
    command.env_remove("CREDENTIALS_DIRECTORY");
    if let Some(folder) = credentials {
        command.env("CREDENTIALS_DIRECTORY", folder);
    }
    command.output().expect("muster-agent runs").into()
}

#[test]
fn daemons_take_their_keys_from_the_service_manager() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let mut fleet = Fleet::init(&[format!("config=files:{}", text(&data.path().join("tree")))]);
    let folder = data.path().join("credentials");
    fs::create_dir(&folder).expect("folder");
    let keys = fleet.dir().join("keys");
    let names = [
        "agent-config.key",
        "agent-config.sealing",
        "agent-config.chunk",
        "agent-config.nk",
        "coordinator.key",
        "coordinator.sealing",
        "coordinator.nk",
    ];
    for name in names {
        hand_over(&keys.join(name), &folder.join(name));
        fs::remove_file(keys.join(name)).expect("removed");
    }
    edit(&fleet.dir().join("agents/config.toml"), &[("../keys/agent-config.", "credential:agent-config.")]);
    edit(&fleet.dir().join("coordinator.toml"), &[("keys/coordinator.", "credential:coordinator.")]);

    // Without the service manager, the error says what is missing.
    let said = agent(&fleet, None).with_code(2);
    for part in ["agents/config.toml", "[agent] key", "$CREDENTIALS_DIRECTORY is not set", "LoadCredential="]
    {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    // One that everybody may read is refused there as anywhere.
    let key = folder.join("agent-config.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o444)).expect("mode");
    let said = agent(&fleet, Some(&folder)).with_code(2);
    assert!(said.err.contains("may be read by others (mode 0444)"), "{}", said.err);
    // What only looks like a credential's mode is refused elsewhere.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440)).expect("mode");
    let said = agent(&fleet, Some(data.path())).with_code(2);
    assert!(said.err.contains("is missing"), "{}", said.err);

    fleet.set("CREDENTIALS_DIRECTORY", &text(&folder));
    fleet.up();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let out = data.path().join("out");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&data.path().join("tree"), &out.join("config/files"));

    // An operator's nkey, too: it is read before anything is connected to.
    let nkey = folder.join("operator.nk");
    hand_over(&keys.join("operator.nk"), &nkey);
    fs::remove_file(keys.join("operator.nk")).expect("removed");
    fleet.set("MUSTER_NATS_NKEY", "credential:operator.nk");
    fs::set_permissions(&nkey, fs::Permissions::from_mode(0o444)).expect("mode");
    let said = fleet.run(&["agents"]).with_code(2);
    assert!(said.err.contains("may be read by others (mode 0444)"), "{}", said.err);
    fs::set_permissions(&nkey, fs::Permissions::from_mode(0o440)).expect("mode");
    let _ = fleet.run(&["agents"]).with_code(0);
}
