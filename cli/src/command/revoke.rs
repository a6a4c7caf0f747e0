//! `muster revoke NAME`: a member counts no longer, from the record on that says so. Signed by the root and appended to the
//! log directly, so that the one who is revoked cannot withhold it; who runs reads the log and obeys.

use std::path::{Path, PathBuf};

use muster_protocol::ids::MemberName;
use muster_protocol::log::{Change, Head, Member, Role, Roster, State};
use serde::Serialize;

use crate::args::{Revoke, RoleName};
use crate::bus_users::{self, UserKind};
use crate::command::enroll::role_word;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::round_view::HeadView;
use crate::saying::{previous, root_key, say};
use crate::screen;
use crate::sealed_files::{self, Files};

/// `{"schema":"muster.revoke/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    name: String,
    role: &'static str,
    key: String,
    /// The record that revokes it: what it says from there on counts no longer.
    head: HeadView,
    /// What stops, and what does not.
    effects: Vec<String>,
    /// A configuration of the fleet's folder that was set aside.
    set_aside: Option<String>,
    /// Whether its user on the NATS server was removed from the fleet's folder.
    bus_user_removed: bool,
}

/// Revokes.
pub(crate) async fn run(args: Revoke) -> Outcome {
    let (folder, operator) = fleet::operator_at(args.contact.config.as_deref())?;
    let root = root_key(&args.root, Some(&operator.fleet.root))?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let member = match find(fleet.state(), &args.name, args.role) {
        Ok(member) => member,
        Err(failure) => return Err(left_over(failure, &folder, fleet.state(), &args)?),
    };
    let make = |state: &State| {
        Ok(Roster {
            previous: previous::<Roster>(state),
            changes: vec![Change::Revoke(member.key)],
            at: Some(screen::now()),
        })
    };
    let gone = |state: &State| state.role(&member.key).is_none();
    let head = say::<Roster>(&mut fleet.log, &root, make, gone).await?;
    fleet.remember()?;
    let effects = effects(&member, head, fleet.state());
    let set_aside = set_aside(&folder, &member);
    let removed = match UserKind::of(&member.role) {
        Some(kind) => sign_off(&folder, &member.name, kind)?,
        None => false,
    };
    sealed_files::refresh_or_say(&mut fleet.log, &folder, &operator, &Files::new()).await;
    if args.contact.json {
        screen::json(&View {
            schema: "muster.revoke/1",
            name: member.name.to_string(),
            role: role_word(&member.role),
            key: member.key.to_string(),
            head: HeadView { number: head.number, hash: head.hash.to_string() },
            effects,
            set_aside: set_aside.map(|path| path.display().to_string()),
            bus_user_removed: removed,
        });
        return Ok(Exit::Done);
    }
    let (name, role) = (&member.name, role_word(&member.role));
    screen::line(format!(
        "revoked {name} · {role} · key {} · from log record {} on",
        member.key.short(),
        head.number
    ));
    for effect in effects {
        screen::line(format!("  {effect}"));
    }
    if let Some(path) = set_aside {
        screen::line(format!("  its configuration here was set aside: {}", path.display()));
    }
    if removed {
        for line in bus_users::told(&format!("{name} is out of")) {
            screen::line(line);
        }
    } else if UserKind::of(&member.role).is_some() {
        screen::line("  if the NATS server knows it, take it out of that server's users as well");
    }
    screen::line("note: take the root key away again");
    Ok(Exit::Done)
}

/// Removes a member's user of the NATS server, where the folder keeps the users. Whether it was there.
fn sign_off(folder: &Path, name: &MemberName, kind: UserKind) -> Result<bool, Failure> {
    bus_users::change(folder, |users| users.remove(name, kind, None)).map_err(|failure| {
        Failure::new(failure.exit(), format!("{name} is revoked, but could still sign on to the NATS server"))
            .because(failure.what())
            .next("mend that, and give the command again")
    })
}

/// Nobody is to be revoked. If that is because an earlier command revoked it and did not come as far as the bus, its
/// user goes now.
fn left_over(failure: Failure, folder: &Path, state: &State, args: &Revoke) -> Result<Failure, Failure> {
    if failure.exit() != Exit::Refused {
        return Ok(failure);
    }
    let kinds = |now: bool| {
        let named =
            state.members.values().filter(|m| m.member.name == args.name && m.revoked.is_none() == now);
        named.filter_map(|m| UserKind::of(&m.member.role)).collect::<Vec<_>>()
    };
    let mut removed = false;
    for kind in kinds(false).into_iter().filter(|kind| !kinds(true).contains(kind)) {
        removed |= sign_off(folder, &args.name, kind)?;
    }
    Ok(match removed {
        true => failure.because("It still had a user of the NATS server: that one is gone now."),
        false => failure,
    })
}

/// The one member that is meant.
fn find(state: &State, name: &MemberName, role: Option<RoleName>) -> Result<Member, Failure> {
    let fits = |member: &Member| match role {
        None => true,
        Some(RoleName::Agent) => matches!(member.role, Role::Agent { .. }),
        Some(RoleName::Coordinator) => matches!(member.role, Role::Coordinator),
        Some(RoleName::Viewer) => matches!(member.role, Role::Viewer),
        Some(RoleName::Operator) => matches!(member.role, Role::Operator),
        Some(RoleName::Admin) => matches!(member.role, Role::Admin),
        Some(RoleName::Pruner) => matches!(member.role, Role::Pruner),
        Some(RoleName::Enroller) => matches!(member.role, Role::Enroller { .. }),
    };
    let named: Vec<_> =
        state.members.values().filter(|m| m.member.name == *name && fits(&m.member)).collect();
    let now: Vec<_> = named.iter().filter(|m| m.revoked.is_none()).collect();
    match now.as_slice() {
        [one] => Ok(one.member.clone()),
        [] => Err(match named.iter().filter_map(|m| m.revoked).max() {
            Some(record) => {
                Failure::new(Exit::Refused, format!("{name} is revoked already, by log record {record}"))
            }
            None => {
                let names: Vec<_> = state
                    .members
                    .values()
                    .filter(|m| m.revoked.is_none())
                    .map(|m| format!("{} ({})", m.member.name, role_word(&m.member.role)))
                    .collect();
                Failure::usage(format!("the fleet has no member {name}"))
                    .because(format!("its members: {}", names.join(", ")))
                    .next("give one of these names")
            }
        }),
        several => {
            let roles: Vec<_> = several.iter().map(|m| role_word(&m.member.role)).collect();
            Err(Failure::usage(format!("{name} is the name of several members: {}", roles.join(", ")))
                .next(format!("say which: --role {}", roles.first().copied().unwrap_or("agent"))))
        }
    }
}

/// What stops from the record on, and what does not.
fn effects(member: &Member, head: Head, state: &State) -> Vec<String> {
    let from = head.number;
    let left = |what: &dyn Fn(&Role) -> bool| {
        state.members.values().filter(|m| m.revoked.is_none() && what(&m.member.role)).count()
    };
    match &member.role {
        Role::Agent { service, .. } => vec![
            format!(
                "its hellos, notices and receipts count no longer; a round that is open goes on without {service}"
            ),
            format!(
                "rounds from now on are without {service}; earlier ones, committed before record {from}, recover as before"
            ),
            "its keys never opened a backup; take its access to the share away as well".to_owned(),
            format!(
                "→ muster enroll {service} --source KIND:ARG --root PATH   gives the service a new agent"
            ),
        ],
        Role::Coordinator => {
            let others = left(&|role| matches!(role, Role::Coordinator));
            let mut effects = vec![format!(
                "what it appends from record {from} on is void, and agents follow it no longer; what it committed before counts"
            )];
            effects.push(match others {
                0 => "no coordinator is left: no round can run → muster enroll NAME --role coordinator --root PATH".to_owned(),
                others => format!("{} left; one of them takes the lead", screen::plural(others, "coordinator")),
            });
            effects
        }
        Role::Viewer => {
            vec!["it never could change anything; take its access to the share away as well".to_owned()]
        }
        Role::Operator | Role::Admin => {
            let mut effects = vec![format!(
                "what it signs from record {from} on counts no longer; what it decided before stays"
            )];
            if left(&|role| matches!(role, Role::Admin)) == 0 {
                effects.push("no admin is left: only the root changes the configuration now".to_owned());
            }
            effects
        }
        Role::Pruner => vec![format!("nothing is deleted from the share from record {from} on")],
        Role::Enroller { .. } => {
            vec!["it lets nobody in any more; agents that it let in before stay → muster revoke each that should not".to_owned()]
        }
    }
}

/// A configuration of the revoked member in the fleet's own folder is kept from starting again.
fn set_aside(folder: &Path, member: &Member) -> Option<PathBuf> {
    let config = match &member.role {
        Role::Agent { service, .. } => {
            let file = folder.join(format!("agents/{service}.toml"));
            let key = muster_agent::config::Config::load(&file).ok()?.agent.key;
            (file, key)
        }
        Role::Coordinator => {
            let file = folder.join(match member.name.as_str().starts_with("coordinator") {
                true => format!("{}.toml", member.name),
                false => format!("coordinator-{}.toml", member.name),
            });
            let key = muster_coordinator::config::Config::load(&file).ok()?.coordinator.key;
            (file, key)
        }
        Role::Viewer | Role::Operator | Role::Admin | Role::Pruner | Role::Enroller { .. } => return None,
    };
    let (file, key) = config;
    let own = muster_share::secret_file::read_signing_key(&key).ok()?.key_id() == member.key;
    let aside = file.with_extension("toml.revoked");
    (own && std::fs::rename(&file, &aside).is_ok()).then_some(aside)
}
