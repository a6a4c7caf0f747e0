//! Credentials of the share: entered once by an operator, sealed to the coordinators, told by the leader to the agents of a
//! round, and shown to nobody.

use std::fmt;

use muster_protocol::entropy::Entropy;
use muster_protocol::ids::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// Longest credentials in bytes: they travel in one message of the bus.
pub const MAX_CREDENTIALS_LEN: usize = 2048;

/// Credentials of the share, as the operator gave them. Wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// 16 random bytes, so that the fingerprint tells nothing of a short secret.
    #[serde(with = "serde_bytes")]
    salt: [u8; 16],
    #[serde(with = "serde_bytes")]
    secret: Vec<u8>,
}

impl Credentials {
    /// These, with a fresh salt.
    pub fn new(secret: Zeroizing<Vec<u8>>, entropy: &mut dyn Entropy) -> Self {
        let mut salt = [0; 16];
        entropy.fill(&mut salt);
        Self { salt, secret: secret.to_vec() }
    }

    /// What the backends get.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.secret
    }

    /// What people may see: the first 8 bytes of SHA-256 over salt and secret, as hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new().chain_update(self.salt).chain_update(&self.secret).finalize();
        hex(&digest[..8])
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;
    use crate::entropy::OsEntropy;
    use zeroize::Zeroizing;

    #[test]
    fn they_show_a_fingerprint_and_nothing_else() {
        let secret = || Zeroizing::new(b"correct horse".to_vec());
        let (one, other) =
            (Credentials::new(secret(), &mut OsEntropy), Credentials::new(secret(), &mut OsEntropy));
        assert_eq!((one.expose(), one.fingerprint().len()), (b"correct horse".as_slice(), 16));
        assert_ne!(one.fingerprint(), other.fingerprint(), "the salt is fresh");
        let shown = format!("{one:?}");
        assert!(shown.contains(&one.fingerprint()) && !shown.contains("horse"), "{shown}");
        assert!(!shown.contains("104, 111, 114"), "{shown}");
    }
}
