//! What a configuration may say, and how an error names what it may not.

use super::Config;
use muster_protocol::config::ConfigError;
use std::path::Path;

const LEAST: &str = "[fleet]\nname = \"prod\"\nid = \"ID\"\nroot = \"ID\"\n\
    [coordinator]\nname = \"coordinator\"\nkey = \"keys/coordinator.key\"\nstate = \"state/coordinator\"\n\
    [share]\nurl = \"../share\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n";

fn load(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("coordinator.toml");
    std::fs::write(&path, text.replace("ID", &"0a".repeat(32))).expect("written");
    Config::load(&path)
}

#[test]
fn defaults_fill_in_and_what_is_written_is_read_back() {
    let config = load(LEAST).expect("valid");
    assert_eq!(config.round.deadline.to_string(), "4h");
    assert_eq!(config.round.attempts, 3);
    assert!(config.coordinator.key.is_absolute() && config.coordinator.key.ends_with("keys/coordinator.key"));
    assert!(Path::new(&config.share.url).is_absolute());
    let text = config.to_toml_string();
    assert!(
        text.contains("\n[lead]\nlease = \"20s\"\ntakeover = \"1m\"\n")
            && text.contains("overlap = \"queue\"\n"),
        "{text}"
    );
    assert_eq!(load(&text).expect("valid"), config);
}

const CHANNELS: &str = r#"
    [[notify]]
    name = "bus"
    kind = "nats"
    [[notify]]
    name = "ops"
    kind = "webhook"
    url = "https://hooks.example.org/services/hunter2"
    secret_file = "keys/ops.secret"
    form = "slack"
    digest = "24h"
    [[notify]]
    name = "mail"
    kind = "smtp"
    host = "mail.example.org"
    user = "muster"
    password_file = "keys/mail.password"
    from = "Muster <muster@example.org>"
    to = ["ops@example.org"]
    min_severity = "error"
    [[notify]]
    name = "outside"
    kind = "ping"
    url_file = "keys/ping.url"
"#;

#[test]
fn channels_are_read_back_and_their_addresses_are_not_shown() {
    let config = load(&format!("{LEAST}{CHANNELS}")).expect("valid");
    assert_eq!(config.notify.len(), 4);
    let secret = config.notify[1].secret_file.as_deref().expect("set");
    assert!(secret.is_absolute() && secret.ends_with("keys/ops.secret"));
    assert_eq!(load(&config.to_toml_string()).expect("valid"), config);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn channels_that_cannot_be_are_named() {
    let smtp =
        "kind = \"smtp\"\nhost = \"mail.example.org\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]";
    for (keys, part) in [
        ("kind = \"pager\"".to_owned(), "[notify] kind: unknown variant `pager`"),
        (
            "kind = \"nats\"\nurl = \"https://a.example.org\"".to_owned(),
            "channel x: a channel of kind nats has no such key",
        ),
        ("kind = \"nats\"\ncolour = 1".to_owned(), "[notify] colour: unknown key `colour`"),
        ("kind = \"webhook\"".to_owned(), "channel x: is missing"),
        (
            "kind = \"webhook\"\nurl = \"http://a.example.org/hunter2\"".to_owned(),
            "channel x: must begin with https://",
        ),
        (format!("{smtp}\ntls = \"none\""), "[notify] tls: channel x: must be \"starttls\" or \"implicit\""),
        (format!("{smtp}\nuser = \"a\""), "must be set together with password_file"),
        (
            smtp.replace("a@example.org", "a@example.org\\r\\nBcc: c@example.org"),
            "[notify] from: channel x: must be an address",
        ),
        (smtp.replace("\"b@", "\"@"), "[notify] to: channel x: must be addresses"),
        (
            smtp.replace("b@example.org", "b@example.org, c@example.org"),
            "[notify] to: channel x: must be addresses",
        ),
        ("kind = \"nats\"\ndigest = \"0s\"".to_owned(), "must be longer than nothing"),
        ("kind = \"nats\"\n[[notify]]\nname = \"x\"\nkind = \"nats\"".to_owned(), "there are two channels x"),
        ("kind = \"nats\"\nmin_severity = \"low\"".to_owned(), "unknown variant `low`"),
    ] {
        let text = format!("{LEAST}\n[[notify]]\nname = \"x\"\n{keys}");
        let error = load(&text).expect_err(&keys).to_string();
        // A key that is missing is on no line.
        assert!(error.contains("coordinator.toml, ") && error.contains(part), "{keys}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn errors_name_file_and_key() {
    for (more, part) in [
        ("[round]\nattempts = 0", "[round] attempts: must be from 1 to 100"),
        ("[round]\noverlap = \"wait\"", "[round] overlap: unknown variant `wait`"),
        ("[round]\nretry_longest = \"1s\"", "[round] retry_longest: must be at least as long as retry_first"),
        ("[streams]\nreplicas = 2", "[streams] replicas: must be 1, 3 or 5"),
        ("[cut]\nenabled = true\nbarrier = \"4h\"", "[cut] barrier: must be shorter than [round] deadline"),
        ("[cut]\non_break = \"stop\"", "[cut] on_break: unknown variant `stop`"),
        ("[lead]\nlease = \"10ms\"", "[lead] lease: must be at least 1s"),
        ("[lead]\nleash = \"4h\"", "[lead] leash: unknown key `leash`"),
        ("[http]\nlisten = \"0.0.0.0:8470\"", "[http] listen: can be reached by other machines"),
        ("[telemetry]\nsample = 7.0", "[telemetry] sample: must be from 0 to 1"),
    ] {
        let error = load(&format!("{LEAST}{more}")).expect_err(more).to_string();
        assert!(error.contains("coordinator.toml, line 1") && error.contains(part), "{error}");
    }
    let error = load(&LEAST.replace("\"prod\"", "\"Prod\"")).expect_err("a bad name").to_string();
    assert!(error.contains("line 2, [fleet] name: fleet name \"Prod\" must match"), "{error}");
}
