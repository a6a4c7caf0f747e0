//! A kit as `init` and `key rotate` make it: what the worst day needs, in one folder.
//!
//! ```text
//! recovery.key   private, 0600        root.pub       the root public key
//! emergency.py   recovers without us  README.md      what to do
//! kit.html       to be printed: facts and steps, with QR codes; nothing of it is secret
//! private-key.html   only if asked for: the private key as text and QR code, 0600
//! ```

mod page;
mod qr;
mod readme;

use std::path::Path;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::config::FleetConfig;
use muster_protocol::log::Head;
use muster_protocol::pem;

use crate::command::init::write::Writer;
use crate::failure::Failure;

/// Reads a share with this kit when Muster's own programs are lost.
const EMERGENCY: &str = include_str!("../../kit/emergency.py");

/// What a kit says that is no secret.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) fleet: FleetConfig,
    /// The share's address.
    pub(crate) share: String,
    pub(crate) services: Vec<String>,
    /// What backups open with; the first is the kit's own.
    pub(crate) recipients: Vec<Recipient>,
    /// When, for people.
    pub(crate) created: String,
}

/// Makes the folder with everything but the pages.
pub(crate) fn write(
    folder: &Path,
    facts: &Facts,
    recovery: &Identity,
    writer: &mut Writer<'_>,
) -> Result<(), Failure> {
    writer.folder(folder)?;
    writer.secret(&folder.join("recovery.key"), recovery.to_file_text(&facts.created).as_bytes())?;
    writer.public(&folder.join("root.pub"), &pem::public_key_to_pem(&facts.fleet.root))?;
    writer.public(&folder.join("README.md"), &readme::readme(facts))?;
    writer.program(&folder.join("emergency.py"), EMERGENCY)
}

/// The page to be printed. `head`: the log as it stands.
pub(crate) fn page(
    folder: &Path,
    facts: &Facts,
    head: &Head,
    writer: &mut Writer<'_>,
) -> Result<(), Failure> {
    writer.public(&folder.join("kit.html"), &page::public(facts, head))
}

/// The page with the private key, for whoever asked for it.
pub(crate) fn private_page(
    folder: &Path,
    facts: &Facts,
    recovery: &Identity,
    writer: &mut Writer<'_>,
) -> Result<(), Failure> {
    writer.secret(&folder.join("private-key.html"), page::private(facts, recovery).as_bytes())
}
