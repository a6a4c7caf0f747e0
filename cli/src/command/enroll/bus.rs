//! The new member's way to the NATS server: an nkey of its own, and a user on the server that knows it.
//!
//! Where the fleet's folder keeps the users, it is added there. Where the server is set up elsewhere and knows its
//! clients by nkeys, whoever keeps that server is told what to add; and a server that lets everybody in needs nothing.

use std::path::{Path, PathBuf};

use muster_bus::UserKey;
use muster_protocol::config::BusConfig;
use serde::Serialize;

use super::request::{Place, Request, Wanted};
use crate::bus_users::{self, BusUser, CA, PublicNkey, UserKind};
use crate::command::init::write::Writer;
use crate::exit::Exit;
use crate::failure::Failure;

/// What becomes of the bus with the new member.
pub(super) struct NewUser {
    user: BusUser,
    key: UserKey,
    /// The folder that keeps the users; none when the server is set up elsewhere.
    folder: Option<PathBuf>,
}

/// A user of the server, for those who are told.
#[derive(Debug, Serialize)]
pub(super) struct View {
    name: String,
    kind: &'static str,
    nkey: String,
    /// Whether it is in `nats-users.toml`; if not, the server's configuration needs it.
    added: bool,
}

impl NewUser {
    /// The user that a request needs, if it does; `folder` is that of the operator who asks.
    ///
    /// # Errors
    /// Exit 2 when the folder's list of users cannot be used.
    pub(super) fn plan(request: &Request, folder: &Path) -> Result<Option<Self>, Failure> {
        let kind = match &request.role {
            Wanted::Agent { .. } => Some(UserKind::Agent),
            Wanted::Other(role) => UserKind::of(role),
        };
        let Some(kind) = kind else { return Ok(None) };
        let keeps = bus_users::load(folder)?.is_some();
        if !keeps && request.operator.nats.nkey.as_os_str().is_empty() {
            return Ok(None);
        }
        let key = bus_users::new_key();
        let user = BusUser { name: request.name.clone(), kind, nkey: PublicNkey::of(&key) };
        Ok(Some(Self { user, key, folder: keeps.then(|| folder.to_owned()) }))
    }

    /// Lets it in. Before the log does: a user that is no member can do nothing, a member without a user neither, but
    /// only the first is taken back here.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub(super) fn add(&self) -> Result<(), Failure> {
        self.change(|users| users.add(self.user.clone()))
    }

    /// Takes it back.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub(super) fn take_back(&self) -> Result<(), Failure> {
        self.change(|users| users.remove_key(&self.user.nkey))
    }

    /// Removes whoever had its name before it.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub(super) fn replace(&self) -> Result<(), Failure> {
        let BusUser { name, kind, nkey } = &self.user;
        self.change(|users| users.remove(name, *kind, Some(nkey))).map_err(|failure| {
            Failure::new(
                Exit::Failed,
                format!("the former agent of {name} counts no longer, and still has a user on the bus"),
            )
            .because(failure.what())
            .next(format!("remove it from {}, then start muster up again", bus_users::USERS))
        })
    }

    fn change(&self, change: impl FnOnce(&mut bus_users::BusUsers)) -> Result<(), Failure> {
        match &self.folder {
            Some(folder) => bus_users::change(folder, change).map(drop),
            None => Ok(()),
        }
    }

    pub(super) fn view(&self) -> View {
        View {
            name: self.user.name.to_string(),
            kind: self.user.kind.word(),
            nkey: self.user.nkey.to_string(),
            added: self.folder.is_some(),
        }
    }

    /// For people.
    pub(super) fn told(&self) -> Vec<String> {
        let BusUser { name, kind, nkey } = &self.user;
        let kind = kind.word();
        if self.folder.is_some() {
            return bus_users::told(&format!("{kind} {name} is let in by"));
        }
        vec![
            format!("bus       the NATS server does not know it yet: {kind} {name}, nkey {nkey}"),
            "          → add it to the server's users, as deploy/nats/prod.conf has its kind, and let it reload"
                .to_owned(),
        ]
    }
}

/// Writes what the member needs to sign on: `stem` with the ending `nk`, and the CA's certificate, below its folder.
/// Returns its `[nats]`, whose paths begin with `up`.
///
/// # Errors
/// When the CA's certificate cannot be read, or a file not be written.
pub(super) fn write(
    request: &Request,
    new: Option<&NewUser>,
    stem: &Path,
    up: &str,
    writer: &mut Writer<'_>,
) -> Result<BusConfig, Failure> {
    let nats = &request.operator.nats;
    let mut section = BusConfig::at(nats.url.clone());
    let folder = match &request.place {
        Place::Apart(folder) | Place::Here(folder) => folder,
    };
    if let Some(new) = new {
        let seed = stem.with_extension("nk");
        writer.secret(&folder.join(&seed), bus_users::seed_file(&new.key).as_bytes())?;
        section.nkey = Path::new(up).join(seed);
    }
    if nats.ca.as_os_str().is_empty() {
        return Ok(section);
    }
    section.ca = match &request.place {
        Place::Apart(folder) => {
            let text = std::fs::read_to_string(&nats.ca).map_err(|error| {
                Failure::usage(format!("the CA's certificate {} cannot be read", nats.ca.display()))
                    .because(error.to_string())
                    .next("[nats] ca in operator.toml names it")
            })?;
            writer.public(&folder.join(CA), &text)?;
            Path::new(up).join(CA)
        }
        Place::Here(folder) => match nats.ca.strip_prefix(folder) {
            Ok(inner) => Path::new(up).join(inner),
            Err(_) => nats.ca.clone(),
        },
    };
    Ok(section)
}
