//! The kit, as commands use it: the private recovery key and the root public key in one folder.
//!
//! Nothing of it is ever printed or sent anywhere but short fingerprints.

use std::path::Path;
use std::sync::Arc;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::ids::KeyId;
use muster_share::secret_file::{self, SecretFileError};
use muster_share::verify::chain::{WrongKey, short_recipient};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::reading_back::round_ranges;

/// The private recovery key's file.
const RECOVERY_KEY: &str = "recovery.key";
/// The root public key's file.
const ROOT_PUBLIC: &str = "root.pub";

/// An opened kit.
#[derive(Debug)]
pub(crate) struct Kit {
    /// Recovery keys.
    pub(crate) keys: Arc<Vec<Identity>>,
    /// The root key that everything is believed by.
    pub(crate) root: KeyId,
}

impl Kit {
    /// The kit in a folder.
    ///
    /// # Errors
    /// Exit 5 when a key is missing or no key, exit 2 when others may read the private one, or no folder is named.
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        if folder.is_file() {
            let around =
                folder.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Err(Failure::usage(format!("--kit {} is a file", folder.display()))
                .because("A kit is a folder: recovery.key and root.pub lie in it.")
                .next(format!("--kit {}", around.display())));
        }
        let keys = secret_file::read_identities(&folder.join(RECOVERY_KEY)).map_err(|e| unusable(&e))?;
        let root = secret_file::read_public_key(&folder.join(ROOT_PUBLIC)).map_err(|e| unusable(&e))?;
        Ok(Self { keys: Arc::new(keys), root })
    }
}

fn unusable(error: &SecretFileError) -> Failure {
    let (exit, next) = match error {
        SecretFileError::Loose { .. } => (Exit::Usage, None),
        SecretFileError::Missing { .. } => (
            Exit::Key,
            Some("--kit names the folder that `muster init` made: recovery.key and root.pub lie in it"),
        ),
        SecretFileError::NotAFile { .. }
        | SecretFileError::NoText { .. }
        | SecretFileError::Exists { .. }
        | SecretFileError::Io { .. }
        | SecretFileError::Pem { .. }
        | SecretFileError::Identity { .. }
        | SecretFileError::Hex { .. } => (Exit::Key, None),
    };
    let failure = Failure::new(exit, error.to_string()).caused_by(error);
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

/// None of the kit's keys opens a round.
pub(crate) fn wrong_key(wrong: &WrongKey, keys: &[Identity]) -> Failure {
    let list = |recipients: &mut dyn Iterator<Item = Recipient>| {
        recipients.map(|recipient| short_recipient(&recipient)).collect::<Vec<_>>().join(", ")
    };
    let failure =
        Failure::new(Exit::Key, format!("the kit's recovery key does not open round {}", wrong.number))
            .because(format!("it opens with {}", list(&mut wrong.wanted.iter().cloned())))
            .because(format!("the kit has {}", list(&mut keys.iter().map(Identity::recipient))));
    let failure = match wrong.opened.is_empty() {
        true => failure,
        false => failure.because(format!("this kit opens {}", round_ranges(&wrong.opened))).next(
            "name one of those, or join the kits: one folder, with the keys of all in its recovery.key",
        ),
    };
    let failure = match wrong.next {
        true => failure.next("it opens the rounds from the next one on: muster start --wait, then again"),
        false => failure,
    };
    failure.next("take the kit that has one of these keys; it is printed on the kit's page")
}
