//! What root or an enroller says, appended to the log on the share directly: no coordinator is asked, so that a stolen one
//! can withhold nothing. The private key is read from its file for the one command and never leaves it.

use std::path::Path;

use muster_protocol::envelope::Signer;
use muster_protocol::ids::KeyId;
use muster_protocol::log::{Body, Head, State, seal_statement};
use muster_share::log::{AppendError, Log};
use muster_share::secret_file::{self, SecretFileError};

use crate::exit::Exit;
use crate::failure::Failure;

/// The private root key's file in its folder.
pub(crate) const ROOT_KEY: &str = "root.key";
/// Tries for one statement: each lost slot is somebody else's record, so this many at once is no accident.
const TRIES: usize = 100;

/// The root key in a folder, or in the file itself.
///
/// # Errors
/// Exit 5 when it is missing, no key, or not `want`; exit 2 when others may read it.
pub(crate) fn root_key(path: &Path, want: Option<&KeyId>) -> Result<Signer, Failure> {
    let file = if path.is_dir() { path.join(ROOT_KEY) } else { path.to_owned() };
    let next = "--root names the folder with root.key, which `muster init` made beside the kit";
    let root = signing_key(&file).map_err(|failure| failure.next(next))?;
    match want {
        Some(want) if *want != root.key_id() => {
            Err(Failure::new(Exit::Key, format!("{} is the root key of another fleet", file.display()))
                .because(format!(
                    "it is {}, and this fleet's root is {}",
                    root.key_id().short(),
                    want.short()
                ))
                .next("take the root key that `muster init` made for this fleet"))
        }
        Some(_) | None => Ok(root),
    }
}

/// A private signing key.
///
/// # Errors
/// Exit 5 when it is missing or no key, exit 2 when others may read it.
pub(crate) fn signing_key(file: &Path) -> Result<Signer, Failure> {
    secret_file::read_signing_key(file).map_err(|error| {
        let exit = match &error {
            SecretFileError::Loose { .. } => Exit::Usage,
            SecretFileError::Missing { .. }
            | SecretFileError::NotAFile { .. }
            | SecretFileError::NoText { .. }
            | SecretFileError::Exists { .. }
            | SecretFileError::Io { .. }
            | SecretFileError::Pem { .. }
            | SecretFileError::Identity { .. }
            | SecretFileError::Hex { .. } => Exit::Key,
        };
        Failure::new(exit, error.to_string()).caused_by(&error)
    })
}

/// Appends what `signer` says. `make` makes it for the log as it stands, again whenever another record came first;
/// `stands` tells whether it is in the log already, where an append ended without an answer.
///
/// # Errors
/// Exit 7 when the rules of the log do not allow it; exit 6 when the share does not take it.
pub(crate) async fn say<B: Body>(
    log: &mut Log,
    signer: &Signer,
    make: impl Fn(&State) -> Result<B, Failure>,
    stands: impl Fn(&State) -> bool,
) -> Result<Head, Failure> {
    for _ in 0..TRIES {
        let body = make(log.state())?;
        let statement = seal_statement(signer, &log.state().fleet, &body);
        match log.append_statement::<B>(signer, statement).await {
            Ok(head) => return Ok(head),
            Err(AppendError::Lost) if stands(log.state()) => return Ok(log.head()),
            Err(AppendError::Lost) => {}
            Err(AppendError::Refused { why }) => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("KEY-03: the log does not allow this: {why}"),
                ));
            }
            Err(AppendError::Store(error)) => {
                if log.refresh().await.is_ok() && stands(log.state()) {
                    return Ok(log.head());
                }
                return Err(error.into());
            }
            Err(error @ (AppendError::TooLong { .. } | AppendError::Log(_) | AppendError::Copy { .. })) => {
                return Err(error.into());
            }
        }
    }
    Err(AppendError::Lost.into())
}

/// The hash that the next statement of a kind names.
pub(crate) fn previous<B: Body>(state: &State) -> Option<muster_protocol::ids::ObjectId> {
    state.statements.get(B::KIND).copied()
}
