//! What the command line and the environment say of the share besides its address: the file with its credentials, and
//! certificates. It counts for every command, in front of what a configuration says.

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;
use muster_protocol::config::ShareConfig;

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
    let environment = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let ShareAccess { share_credentials, share_ca } = access;
    // A second call would be another command of the same process, and there is none.
    let _ = GIVEN.set(ShareAccess {
        share_credentials: share_credentials
            .or_else(|| environment("MUSTER_SHARE_CREDENTIALS"))
            .map(absolute),
        share_ca: share_ca.or_else(|| environment("MUSTER_SHARE_CA")).map(absolute),
    });
}

/// The share with what was given.
pub(crate) fn fill(share: &ShareConfig) -> ShareConfig {
    let mut share = share.clone();
    if let Some(given) = GIVEN.get() {
        if let Some(file) = &given.share_credentials {
            share.credentials.clone_from(file);
        }
        if let Some(file) = &given.share_ca {
            share.ca.clone_from(file);
        }
    }
    share
}
