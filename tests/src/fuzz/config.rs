//! Configuration files: `agents/NAME.toml` and `coordinator.toml`, with variables laid over them.

use std::error::Error;
use std::path::Path;

use muster_protocol::config::{Checked, parse};

/// Any text as each configuration: it is refused with a message of bounded length, or what was read is written and read
/// as the same. The first byte says which variable is laid over it, the first line is its value.
pub(super) fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    read::<muster_agent::config::Config>(text, muster_agent::config::Config::to_toml_string);
    read::<muster_coordinator::config::Config>(text, muster_coordinator::config::Config::to_toml_string);
    if let Ok(config) = parse::<muster_agent::config::Config>(Path::new("agent.toml"), text, |_| None) {
        let _ = config.sources();
    }
}

fn read<T: Checked>(text: &str, print: impl Fn(&T) -> String) {
    let file = Path::new("a.toml");
    let value = text.lines().next().unwrap_or_default();
    for variable in
        ["", "MUSTER_LOG_FORMAT", "MUSTER_ROUND_ATTEMPTS", "MUSTER_TELEMETRY_SAMPLE", "MUSTER_ENGINE_PACK"]
    {
        match parse::<T>(file, text, |name| (name == variable).then(|| value.to_owned())) {
            Ok(config) => {
                let printed = print(&config);
                let again: T = parse(file, &printed, |_| None).expect("a configuration in its own words");
                assert_eq!(print(&again), printed);
            }
            Err(error) => {
                let mut said = error.to_string();
                let mut cause = error.source();
                while let Some(next) = cause {
                    said.push_str(&next.to_string());
                    cause = next.source();
                }
                assert!(said.len() <= 1000 + 2 * text.len(), "{} bytes of message", said.len());
            }
        }
    }
}

pub(super) fn samples() -> Vec<Vec<u8>> {
    let fleet =
        format!("[fleet]\nname = \"prod\"\nid = \"{}\"\nroot = \"{}\"\n", "0a".repeat(32), "0b".repeat(32));
    let bus = "[share]\nurl = \"share\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n";
    let agent = format!(
        "{fleet}{bus}[agent]\nservice = \"dns\"\nkey = \"k\"\nsealing_key = \"s\"\nchunk_key = \"c\"\nstate = \"d\"\n\
         heartbeat = \"15s\"\n[engine]\nworkers = 2\nzstd_level = 3\nchunk = \"256KiB\"\npack = \"16MiB\"\n\
         self_check = true\nbandwidth = \"0B\"\n[log]\nformat = \"json\"\n[telemetry]\nsample = 0.5\n\
         [[source]]\nkind = \"files\"\npath = \"/srv\"\nexclude = [\"*.tmp\"]\n\
         [[source]]\nkind = \"command\"\nargv = [\"true\"]\n"
    );
    let coordinator = format!(
        "{fleet}{bus}[coordinator]\nname = \"one\"\nkey = \"k\"\nstate = \"d\"\n[round]\ndeadline = \"4h\"\n\
         attempts = 3\noverlap = \"skip\"\n[lead]\ntakeover = \"60s\"\n"
    );
    vec![agent.into_bytes(), coordinator.into_bytes()]
}
