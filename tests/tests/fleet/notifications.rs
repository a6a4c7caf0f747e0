//! People are told of alerts, once: by webhooks in each form, over the bus, by mail and by a ping outside, with real processes and
//! real receivers.

mod failing;
mod mails;
mod pings;
mod rebuilt;
mod told;

use std::fs;
use std::path::PathBuf;

use muster_tests::fleet::{Fleet, secret, text};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::Value;

/// What a quick channel needs: what an operator waits for in seconds, a test waits for in tenths.
const QUICK: &str = "retry_first = \"100ms\"\nretry_longest = \"400ms\"\n";
/// A secret that must be in no log.
const SECRET: &str = "the signing hunter2";

/// A fleet whose `web` has no agent yet: its rounds are partial. Not started.
fn half() -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    let services = ["config", "web"].map(|name| {
        tree::small(&data.path().join(name), 1);
        format!("{name}=files:{}", text(&data.path().join(name)))
    });
    (Fleet::init(&services), data)
}

fn begin(fleet: &mut Fleet) {
    fleet.start_nats();
    fleet.start_coordinator();
    fleet.start_agent("config");
}

/// Adds a channel to a coordinator's configuration.
fn channel(fleet: &Fleet, name: &str, keys: &str) {
    channel_of(fleet, "coordinator", name, keys);
}

/// Adds a channel to the configuration of this coordinator.
fn channel_of(fleet: &Fleet, coordinator: &str, name: &str, keys: &str) {
    let file = fleet.dir().join(format!("{coordinator}.toml"));
    let before = fs::read_to_string(&file).expect("a configuration");
    fs::write(&file, format!("{before}\n[[notify]]\nname = \"{name}\"\n{keys}\n")).expect("written");
}

/// A file below the fleet's keys, with a secret in it.
fn secret_file(fleet: &Fleet, name: &str, holds: &str) -> PathBuf {
    let file = fleet.dir().join("keys").join(name);
    secret(&file, &format!("{holds}\n"));
    file
}

/// What the messages of our own form say: kind, event, code, subject.
fn said(messages: &[Value]) -> Vec<String> {
    let alert = |kind: &str, alert: &Value| {
        let word = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
        format!("{kind} {} {} {}", word("event"), word("code"), word("subject"))
    };
    let of = |message: &Value| {
        let kind = message["kind"].as_str().unwrap_or_default().to_owned();
        let alerts = message["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().map(|told| alert(&kind, told)).collect::<Vec<_>>()
    };
    messages.iter().flat_map(of).collect()
}

/// How often this was said.
fn times(messages: &[Value], what: &str) -> usize {
    said(messages).iter().filter(|said| said.ends_with(what)).count()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// Nothing that may be secret is in what the coordinator logged, in what `doctor` writes down, or in its state.
fn keeps_secrets(fleet: &Fleet, secrets: &[&str]) {
    let bundle = fleet.path("bundle.json");
    let _ = fleet.run(&["doctor", "--bundle", &text(&bundle)]);
    let state = fleet.dir().join("state/coordinator");
    let files = [bundle, fleet.path("coordinator.log"), state.join("notify.json"), state.join("alerts.json")];
    for file in files {
        let written = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for secret in secrets {
            assert!(!written.contains(secret), "{secret} is in {}", file.display());
        }
    }
}
