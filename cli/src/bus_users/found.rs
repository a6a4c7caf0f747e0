//! The bus of a new fleet's folder: the server's configuration, its certificate, and a user for each client.

use std::path::Path;

use muster_protocol::config::BusConfig;
use muster_protocol::ids::{FleetName, MemberName};

use super::certificate::{self, Certificates};
use super::files::accounts_file;
use super::{ACCOUNTS, BusUser, BusUsers, PublicNkey, USERS, UserKind, new_key, seed_file, seed_path};
use crate::command::init::write::Writer;
use crate::failure::Failure;

/// The server's configuration.
const SERVER: &str = "nats-server.conf";
/// The CA's certificate, from the folder on: what clients trust.
pub(crate) const CA: &str = "keys/bus-ca.crt";
/// The server's certificate and private key, from the folder on.
const CERTIFICATE: &str = "keys/bus-server.crt";
const KEY: &str = "keys/bus-server.key";

/// A bus that was just set up.
pub(crate) struct Founded {
    url: String,
}

impl Founded {
    /// What goes into `[nats]` of a user's configuration, where `init` puts that: those of agents lie one folder
    /// deeper.
    pub(crate) fn section(&self, kind: UserKind, name: &str) -> BusConfig {
        let up = if kind == UserKind::Agent { "../" } else { "" };
        BusConfig {
            url: self.url.clone(),
            nkey: Path::new(up).join(seed_path(kind, name)),
            ca: Path::new(up).join(CA),
        }
    }
}

/// The address of a server on this machine's port.
pub(crate) fn url(port: u16) -> String {
    format!("tls://127.0.0.1:{port}")
}

/// Writes all files of a bus on this machine's `port` into `dir`, where `keys/` must be. An agent's name is that of its
/// service.
///
/// # Errors
/// When a file is there already or cannot be written.
pub(crate) fn found(
    dir: &Path,
    fleet: &FleetName,
    port: u16,
    members: &[(UserKind, MemberName)],
    writer: &mut Writer<'_>,
) -> Result<Founded, Failure> {
    let mut users = BusUsers::new(fleet.clone());
    for (kind, name) in members {
        let key = new_key();
        writer.secret(&dir.join(seed_path(*kind, name.as_str())), seed_file(&key).as_bytes())?;
        users.add(BusUser { name: name.clone(), kind: *kind, nkey: PublicNkey::of(&key) });
    }
    let names = certificate::names();
    let Certificates { ca, server, key } = certificate::generate(fleet, &names)?;
    writer.public(&dir.join(CA), &ca)?;
    writer.public(&dir.join(CERTIFICATE), &server)?;
    writer.secret(&dir.join(KEY), key.as_bytes())?;
    writer.public(&dir.join(USERS), &users.to_toml_string())?;
    writer.public(&dir.join(ACCOUNTS), &accounts_file(&users))?;
    writer.public(&dir.join(SERVER), &server_file(fleet, port, &names))?;
    Ok(Founded { url: url(port) })
}

fn server_file(fleet: &FleetName, port: u16, names: &[String]) -> String {
    format!(
        "# The NATS server of fleet {fleet}. `muster up` starts it in this folder. By hand: nats-server -c {SERVER},\n\
         # started here, because paths below tls and jetstream are relative to where the server starts.\n\
         # It listens on this machine only. For a fleet on several, listen on 0.0.0.0 and give the others as [nats] url\n\
         # a name of its certificate: {names}.\n\
         # What is kept here may be lost at any time: the share counts.\n\
         server_name: \"muster-{fleet}\"\n\
         listen: \"127.0.0.1:{port}\"\n\
         max_payload: 64KB\n\n\
         tls {{\n    cert_file: \"{CERTIFICATE}\"\n    key_file: \"{KEY}\"\n}}\n\n\
         jetstream {{\n    store_dir: \"state/nats\"\n    max_memory_store: 64MB\n    max_file_store: 1GB\n}}\n\n\
         # Who may sign on, and what each may say and hear.\n\
         include \"{ACCOUNTS}\"\n",
        names = names.join(", "),
    )
}
