//! The bus of a new fleet's folder: the server's configuration, its certificate, and a user for each client.

use std::path::{Path, PathBuf};

use muster_protocol::config::BusConfig;
use muster_protocol::ids::{FleetName, MemberName};

use super::certificate::{self, Certificates};
use super::files::accounts_file;
use super::{
    ACCOUNTS, BusUser, BusUsers, PublicNkey, Server, USERS, UserKind, machine_path, new_key, seed_file,
    seed_path,
};
use crate::command::init::write::Writer;
use crate::failure::Failure;

/// The server's configuration.
const SERVER: &str = "nats-server.conf";
/// The CA's certificate, from the folder on: what clients trust.
pub(crate) const CA: &str = "keys/bus-ca.crt";
/// The server's certificate and private key, from the folder on.
const CERTIFICATE: &str = "keys/bus-server.crt";
const KEY: &str = "keys/bus-server.key";
/// An agent's seed, from the folder of its machine on.
const AGENT_SEED: &str = "keys/agent.nk";

/// Where the files of agents are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the fleet's folder.
    Here,
    /// Each in a folder of its own, to be copied to another machine.
    Apart,
}

/// A bus that was just set up.
pub(crate) struct Founded {
    url: String,
    place: Place,
}

impl Founded {
    /// What goes into `[nats]` of a user's configuration, where `init` puts that: those of agents lie one folder
    /// deeper, or in a folder that has all that they need.
    pub(crate) fn section(&self, kind: UserKind, name: &str) -> BusConfig {
        let (up, nkey) = match (kind, self.place) {
            (UserKind::Agent, Place::Apart) => ("", PathBuf::from(AGENT_SEED)),
            (UserKind::Agent, Place::Here) => ("../", seed_path(kind, name)),
            (UserKind::Coordinator | UserKind::Operator | UserKind::Viewer | UserKind::Trigger, _) => {
                ("", seed_path(kind, name))
            }
        };
        BusConfig { url: self.url.clone(), nkey: Path::new(up).join(nkey), ca: Path::new(up).join(CA) }
    }
}

/// Writes all files of a bus into `dir`, where `keys/` must be, and for agents apart the `keys/` of each one's folder. An
/// agent's name is that of its service.
///
/// # Errors
/// When a file is there already or cannot be written.
pub(crate) fn found(
    dir: &Path,
    fleet: &FleetName,
    server: &Server,
    place: Place,
    members: &[(UserKind, MemberName)],
    writer: &mut Writer<'_>,
) -> Result<Founded, Failure> {
    let mut users = BusUsers::new(fleet.clone());
    let mut names = certificate::names();
    let further = server.name().map(str::to_owned).filter(|name| !names.contains(name));
    names.extend(further);
    let Certificates { ca, server: certificate, key: private } = certificate::generate(fleet, &names)?;
    for (kind, name) in members {
        let key = new_key();
        let seed = if (*kind, place) == (UserKind::Agent, Place::Apart) {
            let folder = machine_path(name.as_str());
            writer.public(&dir.join(&folder).join(CA), &ca)?;
            folder.join(AGENT_SEED)
        } else {
            seed_path(*kind, name.as_str())
        };
        writer.secret(&dir.join(seed), seed_file(&key).as_bytes())?;
        users.add(BusUser { name: name.clone(), kind: *kind, nkey: PublicNkey::of(&key) });
    }
    writer.public(&dir.join(CA), &ca)?;
    writer.public(&dir.join(CERTIFICATE), &certificate)?;
    writer.secret(&dir.join(KEY), private.as_bytes())?;
    writer.public(&dir.join(USERS), &users.to_toml_string())?;
    writer.public(&dir.join(ACCOUNTS), &accounts_file(&users))?;
    writer.public(&dir.join(SERVER), &server_file(fleet, server, &names))?;
    Ok(Founded { url: server.url(), place })
}

fn server_file(fleet: &FleetName, server: &Server, names: &[String]) -> String {
    let reach = match server.name() {
        None => "It listens on this machine only. For a fleet on several: muster init --listen HOST:PORT",
        Some(_) => "Agents of other machines connect to it",
    };
    format!(
        "# The NATS server of fleet {fleet}. `muster up` starts it in this folder. By hand: nats-server -c {SERVER},\n\
         # started here, because paths below tls and jetstream are relative to where the server starts.\n\
         # {reach}. Its certificate\n\
         # knows it as {names}.\n\
         # What is kept here may be lost at any time: the share counts.\n\
         server_name: \"muster-{fleet}\"\n\
         listen: \"{listen}\"\n\
         max_payload: 64KB\n\n\
         tls {{\n    cert_file: \"{CERTIFICATE}\"\n    key_file: \"{KEY}\"\n}}\n\n\
         jetstream {{\n    store_dir: \"state/nats\"\n    max_memory_store: 64MB\n    max_file_store: 1GB\n}}\n\n\
         # Who may sign on, and what each may say and hear.\n\
         include \"{ACCOUNTS}\"\n",
        listen = server.listen(),
        names = names.join(", "),
    )
}
