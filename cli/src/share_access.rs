//! What the command line says of the share besides its address: the file with its credentials, and certificates. It counts
//! for every command and for what that starts, in front of configurations and their variables.

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;
use muster_protocol::config::ShareConfig;

const CREDENTIALS: &str = "MUSTER_SHARE_CREDENTIALS";
const CA: &str = "MUSTER_SHARE_CA";

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ShareAccess {
    /// File with the share's credentials; default MUSTER_SHARE_CREDENTIALS, or what the configuration names
    #[arg(long, global = true, value_name = "FILE", help_heading = "Share")]
    pub(crate) share_credentials: Option<PathBuf>,
    /// File with certificates that are trusted for the share; default MUSTER_SHARE_CA, or what the configuration names
    #[arg(long, global = true, value_name = "FILE", help_heading = "Share")]
    pub(crate) share_ca: Option<PathBuf>,
}

static GIVEN: OnceLock<ShareAccess> = OnceLock::new();

/// Keeps what was given; once, before a command runs.
pub(crate) fn given(access: ShareAccess) {
    let ShareAccess { share_credentials, share_ca } = access;
    // A second call would be another command of the same process, and there is none.
    let _ = GIVEN.set(ShareAccess {
        share_credentials: share_credentials.map(absolute),
        share_ca: share_ca.map(absolute),
    });
}

/// The share of a configuration, with what was given. Its variables are in the configuration already.
pub(crate) fn fill(share: &ShareConfig) -> ShareConfig {
    let mut share = share.clone();
    for (name, file) in environment() {
        let place = if name == CREDENTIALS { &mut share.credentials } else { &mut share.ca };
        place.clone_from(file);
    }
    share
}

/// The share at an address of the command line, which no configuration tells anything about.
pub(crate) fn named(url: &str) -> ShareConfig {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let file = |name| variable(name).map(absolute).unwrap_or_default();
    fill(&ShareConfig { credentials: file(CREDENTIALS), ca: file(CA), ..ShareConfig::at(url) })
}

/// What was given, as variables for the daemons that a command starts.
pub(crate) fn environment() -> impl Iterator<Item = (&'static str, &'static PathBuf)> {
    let given = GIVEN.get();
    let file =
        |name, pick: fn(&ShareAccess) -> Option<&PathBuf>| given.and_then(pick).map(|file| (name, file));
    [file(CREDENTIALS, |given| given.share_credentials.as_ref()), file(CA, |given| given.share_ca.as_ref())]
        .into_iter()
        .flatten()
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
