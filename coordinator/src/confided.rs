//! What is confided to the coordinators: its own sealing key, said in the log, and the credentials of the share out of the
//! sealed part of the fleet's configuration.
//!
//! Without either the coordinator works on: only agents whose share needs credentials go without.

use std::path::Path;
use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::causes::causes;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Sealing, State};
use muster_share::credentials::Credentials;
use muster_share::log::{AppendError, Log};
use muster_share::sealed_config;
use muster_share::secret_file::{self, SecretFileError};
use muster_share::store::Store;
use tokio::sync::watch;

/// Tries for the one record: each lost slot is somebody else's.
const TRIES: u32 = 100;

/// Credentials as they are now; none where the fleet has none.
pub(crate) type Confided = watch::Receiver<Option<Arc<Credentials>>>;

/// The identities in `path`; none when no file is named.
///
/// # Errors
/// When the file that is named cannot be used.
pub(crate) fn keys(path: &Path) -> Result<Vec<Identity>, SecretFileError> {
    if path.as_os_str().is_empty() { Ok(Vec::new()) } else { secret_file::read_identities(path) }
}

/// Says in the log what is sealed to this coordinator, if the log has not heard it yet.
///
/// # Errors
/// When the log does not take it. It is said again at the next start.
pub(crate) async fn say(log: &mut Log, signer: &Signer, keys: &[Identity]) -> Result<(), AppendError> {
    let Some(recipient) = keys.first().map(Identity::recipient) else { return Ok(()) };
    for _ in 0..TRIES {
        if log.state().sealing.get(&signer.key_id()) == Some(&recipient) {
            return Ok(());
        }
        match log.append(signer, &Sealing { recipient: recipient.clone() }).await {
            Ok(_) => return Ok(()),
            Err(AppendError::Lost) => {}
            Err(error) => return Err(error),
        }
    }
    Err(AppendError::Lost)
}

/// The credentials, read now and again with each new configuration in the log.
pub(crate) async fn follow(
    store: Arc<dyn Store>,
    keys: Arc<[Identity]>,
    mut log: watch::Receiver<Arc<State>>,
) -> Confided {
    let state = log.borrow_and_update().clone();
    let mut known = named(&state);
    let (tell, told) = watch::channel(read(store.as_ref(), &state, &keys).await);
    tokio::spawn(async move {
        while log.changed().await.is_ok() {
            let state = log.borrow_and_update().clone();
            if named(&state) != known {
                known = named(&state);
                if tell.send(read(store.as_ref(), &state, &keys).await).is_err() {
                    return;
                }
            }
        }
    });
    told
}

fn named(state: &State) -> Option<ObjectId> {
    state.config.as_ref().and_then(|config| config.sealed)
}

async fn read(store: &dyn Store, state: &State, keys: &[Identity]) -> Option<Arc<Credentials>> {
    if keys.is_empty() {
        return None;
    }
    match sealed_config::in_force(store, state, keys).await {
        Ok(config) => config.and_then(|config| config.credentials).map(Arc::new),
        Err(error) => {
            tracing::warn!(
                error = causes(&error),
                "KEY-03: the fleet's sealed configuration was not read: agents get no share credentials"
            );
            None
        }
    }
}
