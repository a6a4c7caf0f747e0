//! What `enroll` tells: who counts now, what to copy, and what to run there.

use muster_protocol::log::{Head, Member, Role};
use serde::Serialize;

use super::bus::{self, NewUser};
use super::files::Written;
use super::request::{Place, Request, Wanted};
use crate::round_view::HeadView;
use crate::screen;

/// `{"schema":"muster.enroll/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    name: String,
    role: &'static str,
    /// The key that it signs with.
    key: String,
    folder: String,
    config: String,
    /// The record that admits it.
    head: HeadView,
    /// Its user on the NATS server; null when it needs none.
    bus: Option<bus::View>,
    /// What to run on its machine.
    command: String,
    notes: Vec<String>,
}

/// The role's word.
pub(crate) fn role_word(role: &Role) -> &'static str {
    role.word()
}

/// Tells it.
pub(super) fn tell(
    request: &Request,
    written: &Written,
    user: Option<&NewUser>,
    member: &Member,
    head: Head,
    json: bool,
) {
    let (name, role) = (&request.name, role_word(&member.role));
    let there = match &request.place {
        Place::Apart(_) => format!("/etc/muster/{name}"),
        Place::Here(folder) => folder.display().to_string(),
    };
    let config =
        written.config.strip_prefix(&written.folder).unwrap_or(&written.config).display().to_string();
    let command = match &member.role {
        Role::Agent { .. } => format!("muster-agent --config {there}/{config}"),
        Role::Coordinator => format!("muster-coordinator --config {there}/{config}"),
        Role::Enroller { .. } => format!(
            "muster enroll NAME --source KIND:ARG --enroller {there}/keys/{name}.key --config {there}/{config}"
        ),
        Role::Pruner => format!("muster prune --config {there}/{config}"),
        Role::Viewer | Role::Operator | Role::Admin => {
            format!("muster status --config {there}/{config}")
        }
    };
    if json {
        let head = HeadView { number: head.number, hash: head.hash.to_string() };
        screen::json(&View {
            schema: "muster.enroll/1",
            name: name.to_string(),
            role,
            key: member.key.to_string(),
            folder: written.folder.display().to_string(),
            config: written.config.display().to_string(),
            head,
            bus: user.map(NewUser::view),
            command,
            notes: request.warnings.clone(),
        });
        return;
    }
    screen::line(format!(
        "enrolled {name} · {role} · key {} · log record {}",
        member.key.short(),
        head.number
    ));
    if request.replace {
        screen::line(format!(
            "the agent that {name} had counts no longer, from this record on; its first slice is a full upload"
        ));
    }
    for line in user.map(NewUser::told).unwrap_or_default() {
        screen::line(line);
    }
    let folder = written.folder.display();
    match &request.place {
        Place::Apart(_) => {
            screen::line(format!(
                "folder    {folder}: {config}, keys/, state/ (the head of the log, pinned)"
            ));
            screen::line("          its private keys open no backup; nobody else needs them");
            screen::line("next:");
            screen::line(format!(
                "  → copy it to its machine, modes kept:  rsync -a {folder}/ HOST:{there}/"
            ));
            screen::line(format!("  → there: {command}"));
            screen::line(format!("  → here, once it runs: rm -r {folder}"));
        }
        Place::Here(_) => {
            screen::line(format!("folder    {folder}: {config} and its keys"));
            screen::line("next:");
            match &member.role {
                Role::Agent { .. } | Role::Coordinator => {
                    screen::line(format!(
                        "  → muster up {folder}          starts it, too; one that runs does so in seconds"
                    ));
                }
                Role::Viewer | Role::Operator | Role::Admin | Role::Pruner | Role::Enroller { .. } => {
                    screen::line(format!("  → {command}"));
                }
            }
        }
    }
    if let Wanted::Agent { service, .. } = &request.role {
        screen::line(format!("  → muster start --services {service} --wait"));
    }
    for warning in &request.warnings {
        screen::line(format!("note: {warning}"));
    }
    if request.by_root {
        screen::line("note: take the root key away again");
    }
}
