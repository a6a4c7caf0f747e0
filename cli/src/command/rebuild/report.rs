//! What `rebuild` tells: what is there again, who counts, and what comes next.

use muster_agent::source::config::SourceTable;
use muster_protocol::config::TelemetryConfig;
use muster_protocol::log::Member;
use serde::Serialize;

use super::found::Found;
use super::say::Said;
use crate::bus_users::{Place, machine_path};
use crate::command::enroll::role_word;
use crate::reading_back::path_text;
use crate::round_view::HeadView;
use crate::screen;
use crate::sealed_files::coordinator_file;

/// `{"schema":"muster.rebuild/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    fleet_id: String,
    dir: String,
    share: String,
    /// The address of the new NATS server.
    nats: String,
    coordinators: Vec<String>,
    services: Vec<String>,
    /// Folders to be copied to the machines of their services, with `--listen`.
    machines: Vec<String>,
    epoch: u64,
    /// Numbers of open rounds that were ended.
    ended: Vec<u64>,
    /// Services whose agents go on with the keys that they have, because nobody kept their files.
    unkept: Vec<String>,
    /// Members that were left as they are.
    left: Vec<String>,
    newest_round: Option<u64>,
    /// What the kept files would run or call on these machines: `SERVICE: …`.
    runs: Vec<String>,
    head: HeadView,
}

/// Tells it.
pub(super) fn tell(found: &Found, said: &Said, json: bool) {
    let state = found.log.state();
    let named = |member: &Member| format!("{} ({})", member.name, role_word(&member.role));
    let left: Vec<_> = found.left.iter().map(named).collect();
    let coordinators: Vec<_> = found.coordinators.iter().map(|(name, _)| name.to_string()).collect();
    let services: Vec<_> = found.agents.iter().map(|(service, _)| service.to_string()).collect();
    let machines: Vec<_> = match found.place {
        Place::Here => Vec::new(),
        Place::Apart => {
            let folder = |name: &String| found.dir.join(machine_path(name)).display().to_string();
            services.iter().map(folder).collect()
        }
    };
    let unkept: Vec<_> = found.unkept.iter().map(ToString::to_string).collect();
    let newest_round = state.newest_recoverable().map(|round| round.open.number);
    let (dir, name) = (found.dir.display(), &found.fleet.name);
    if json {
        screen::json(&View {
            schema: "muster.rebuild/1",
            fleet: name.to_string(),
            fleet_id: found.fleet.id.to_string(),
            dir: dir.to_string(),
            share: found.share.url.clone(),
            nats: found.server.url(),
            coordinators,
            services,
            machines,
            epoch: said.epoch,
            ended: said.ended.clone(),
            unkept,
            left,
            newest_round,
            runs: runs(found),
            head: HeadView { number: said.head.number, hash: said.head.hash.to_string() },
        });
        return;
    }
    screen::line(format!("rebuilt {name} · {} · {dir}", found.fleet.id.short()));
    screen::line(format!("coordinators  {} · epoch {}", coordinators.join(", "), said.epoch));
    screen::line(format!("services      {}", services.join(", ")));
    screen::line(format!("bus           {}: a new server, with new nkeys and a new CA", found.server.url()));
    screen::line(
        "keys          fresh ones; those of the lost machines count no longer, and never opened a backup",
    );
    for number in &said.ended {
        screen::line(format!("ended         round {number}, which was open when the fleet was lost"));
    }
    screen::line(match newest_round {
        Some(number) => format!("newest round  {number}: it recovers as before, with the kit"),
        None => "newest round  none was committed yet".to_owned(),
    });
    for line in runs(found) {
        screen::line(format!("look at      {line}"));
    }
    for service in &unkept {
        screen::line(format!(
            "warning: nobody kept the file of {service}'s agent; it goes on with the keys that it has"
        ));
        screen::line(format!(
            "  → if it is lost, too: muster enroll {service} --here --replace --source KIND:ARG --root PATH"
        ));
    }
    if !left.is_empty() {
        screen::line(format!("still count   {}", left.join(", ")));
        screen::line(
            "  the new bus does not know them: → muster revoke NAME, then muster enroll NAME, both with --root PATH",
        );
    }
    screen::line(
        "note: coordinators, agents and operator of the former folder count no longer: if it still runs, it stops",
    );
    screen::line("warning: KEY-02: the private recovery and root keys can be read on this machine");
    screen::line("next:");
    screen::line(format!(
        "  → muster recover --share {} --kit PATH --into DIR     the data, before services start",
        found.share.url
    ));
    screen::line(format!("  → muster up {dir}"));
    if found.place == Place::Here {
        for url in found.former_servers() {
            screen::line(format!(
                "warning: the former bus was {url}, and the new one is for this machine alone; for others:"
            ));
            screen::line(
                "  → listen in nats-server.conf on an address that they reach, and name it as [nats] url in their \
                 agents/NAME.toml; rebuild --listen HOST:PORT does all of it",
            );
        }
    }
    for (name, file) in &found.coordinators {
        for channel in &file.notify {
            let (channel, kind) = (&channel.name, channel.kind.as_str());
            screen::line(format!(
                "warning: {name} told people of alerts by channel {channel} ({kind}): its secrets are not kept"
            ));
            screen::line(format!(
                "  → put its files below keys/ and its [[notify]] into {}; docs/notifications.md has examples",
                coordinator_file(name)
            ));
        }
    }
    if let Some(machine) = machines.first() {
        screen::line(format!(
            "  → copy {machine} to the machine of {}, so that only its owner can read it, and so on; there:",
            services.first().map_or("its service", String::as_str)
        ));
        screen::line("    muster-agent --config agent.toml        deploy/systemd has units for both");
        screen::line("  → delete the copies in machines/: each holds an agent's keys");
        screen::line(format!("note: write the new head down, away from the share: {}", said.head));
        return;
    }
    screen::line(
        "  → agents of other machines: copy agents/NAME.toml, keys/agent-NAME.* and keys/bus-ca.crt there, and",
    );
    screen::line(
        "    take agents/NAME.toml out of the folder before `up`, which would look for their sources here",
    );
    screen::line(format!("note: write the new head down, away from the share: {}", said.head));
}

/// What the kept files would run, or send somewhere. Whoever could change the fleet's configuration could write it.
fn runs(found: &Found) -> Vec<String> {
    let mut runs = Vec::new();
    for (service, file) in &found.agents {
        for source in &file.source {
            match source {
                SourceTable::Command(table) => {
                    runs.push(format!("{service} runs {}", words(&table.argv)));
                    if !table.restore.is_empty() {
                        runs.push(format!("{service} restores with {}", words(&table.restore)));
                    }
                }
                SourceTable::Files(_) | SourceTable::Sqlite(_) => {}
            }
        }
        runs.extend(telemetry(service.as_str(), &file.telemetry));
    }
    for (name, file) in &found.coordinators {
        runs.extend(telemetry(name.as_str(), &file.telemetry));
    }
    runs
}

/// Where a member tells of itself: to whom, and on which address whoever comes may read.
fn telemetry(name: &str, config: &TelemetryConfig) -> impl Iterator<Item = String> {
    let sends = config.endpoint().map(|to| format!("{name} sends telemetry to {to}"));
    let answers = config
        .listen()
        .map(|at| format!("{name} answers /metrics on {at}, which must be an address of its new machine"));
    sends.into_iter().chain(answers)
}

fn words(argv: &[String]) -> String {
    argv.iter().map(|word| path_text(word.as_bytes())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use muster_protocol::config::TelemetryConfig;

    use super::telemetry;

    #[test]
    fn where_a_member_tells_of_itself_is_to_be_looked_at() {
        let said = |config: &TelemetryConfig| telemetry("dns", config).collect::<Vec<_>>();
        assert!(said(&TelemetryConfig::default()).is_empty());
        let both = TelemetryConfig {
            otlp_endpoint: "http://192.0.2.7:4318".to_owned(),
            metrics: "192.0.2.8:9464".to_owned(),
            ..TelemetryConfig::default()
        };
        let said = said(&both);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("dns sends telemetry to http://192.0.2.7:4318"), "{said:?}");
        assert!(said[1].contains("dns answers /metrics on 192.0.2.8:9464"), "{said:?}");
    }
}
