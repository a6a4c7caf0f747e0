//! Who a client is to a NATS server: an nkey, which is an Ed25519 key in NATS's own spelling
//! (<https://github.com/nats-io/nkeys>). These keys sign nothing but the server's challenge; they never sign a message
//! of ours. The seed stays in here: it is in no error, no `Debug`, and wiped when the key is dropped.
//!
//! ```text
//! public   base32(0xA0 · key (32) · CRC-16)              56 characters, U…
//! seed     base32(0x95 · 0x00 · seed (32) · CRC-16)      58 characters, SU…
//! ```
//!
//! base32 is that of RFC 4648 without padding; the CRC is CRC-16/XMODEM over all bytes before it, little-endian.

use crate::ConnectError;
use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey};
use muster_protocol::config::{CREDENTIALS_DIRECTORY, is_loose};
use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Prefix byte of a user's public key.
const USER: u8 = 20 << 3;
/// Prefix bytes of a user's seed: that of seeds with the upper bits of the user's, then the rest of these.
const USER_SEED: [u8; 2] = [(18 << 3) | (USER >> 5), (USER & 31) << 3];
/// Length of a seed's text.
const SEED_LEN: usize = 58;
/// Length of a public key's text.
const PUBLIC_LEN: usize = 56;
/// Longest nkey file in bytes; some tools write comments around the seed.
const FILE_LEN: u64 = 4096;

/// The nkey of a NATS user.
pub struct UserKey(SigningKey);

impl UserKey {
    /// The key of these 32 bytes, which must be random.
    #[must_use]
    pub fn from_random(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key of a seed (`SU…`); none when it is not one.
    #[must_use]
    pub fn from_seed(text: &str) -> Option<Self> {
        if text.len() != SEED_LEN {
            return None;
        }
        let mut raw = Zeroizing::new([0; 36]);
        BASE32_NOPAD.decode_mut(text.as_bytes(), raw.as_mut()).ok()?;
        let (body, sum) = raw.split_at(34);
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&body[2..]);
        (body[..2] == USER_SEED && sum == crc16(body).to_le_bytes()).then(|| Self::from_random(&seed))
    }

    /// The key in a file that holds a seed as its first line, and that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, may be read by others, or holds something else.
    pub fn read(path: &Path) -> Result<Self, ConnectError> {
        let unreadable = |source| ConnectError::Credentials { path: path.to_owned(), source };
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() {
            return Err(unreadable(io::Error::other("it is no plain file")));
        }
        let file = OpenOptions::new().read(true).open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        let credentials = std::env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from);
        if is_loose(path, mode, credentials.as_deref()) {
            return Err(ConnectError::CredentialsOpen { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        file.take(FILE_LEN).read_to_end(&mut bytes).map_err(unreadable)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        std::str::from_utf8(line)
            .ok()
            .and_then(|line| Self::from_seed(line.trim()))
            .ok_or_else(|| ConnectError::Nkey { path: path.to_owned() })
    }

    /// The seed as text, as `nsc` and `nk` write it.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<String> {
        let mut raw = Zeroizing::new([0; 36]);
        raw[..2].copy_from_slice(&USER_SEED);
        raw[2..34].copy_from_slice(self.0.as_bytes());
        let sum = crc16(&raw[..34]).to_le_bytes();
        raw[34..].copy_from_slice(&sum);
        Zeroizing::new(BASE32_NOPAD.encode(raw.as_ref()))
    }

    /// The public key as text (`U…`).
    #[must_use]
    pub fn public(&self) -> String {
        let mut raw = vec![USER];
        raw.extend(self.0.verifying_key().as_bytes());
        raw.extend(crc16(&raw).to_le_bytes());
        BASE32_NOPAD.encode(&raw)
    }

    /// The answer to the server's challenge.
    #[must_use]
    pub fn sign(&self, challenge: &[u8]) -> Vec<u8> {
        self.0.sign(challenge).to_bytes().to_vec()
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserKey({})", self.public())
    }
}

/// Whether a text is the public nkey of a user.
#[must_use]
pub fn is_user_nkey(text: &str) -> bool {
    if text.len() != PUBLIC_LEN {
        return false;
    }
    let Ok(raw) = BASE32_NOPAD.decode(text.as_bytes()) else { return false };
    let (body, sum) = raw.split_at(raw.len() - 2);
    body[0] == USER && sum == crc16(body).to_le_bytes()
}

/// Where a user's answers come back: below a prefix that is its own and that nobody guesses who does not know its
/// public nkey. `group` sorts users for the server's permissions: `_INBOX_<group>.<public nkey>`.
#[must_use]
pub fn inbox_prefix(group: &str, public: &str) -> String {
    format!("_INBOX_{group}.{public}")
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{UserKey, is_user_nkey};
    use crate::ConnectError;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn keys_are_spelled_as_nats_spells_them() {
        let key = UserKey::from_random(&[7; 32]);
        let again = UserKey::from_seed(&key.seed()).expect("our own seed");
        assert_eq!(again.public(), key.public());
        assert!(key.seed().starts_with("SU") && key.public().starts_with('U'));
        assert!(is_user_nkey(&key.public()) && !is_user_nkey(&key.seed()));
        // From the documentation of async-nats: made by NATS's own tools.
        let theirs = "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY";
        assert_eq!(UserKey::from_seed(theirs).expect("a seed of others").seed().as_str(), theirs);
        for bad in [
            "",
            "SU",
            "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZA",
            "SAANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY",
            "suanqdpb2ruoe4etua26cnx7fuke5zzkfcqiiw63ox225f2co7uextm7zy",
        ] {
            assert!(UserKey::from_seed(bad).is_none() && !is_user_nkey(bad), "{bad}");
        }
        assert!(!format!("{key:?}").contains(&key.seed()[2..]), "Debug shows the seed");
    }

    #[test]
    fn a_file_that_is_none_is_named_and_not_repeated() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.nk");
        let seed = UserKey::from_random(&[7; 32]).seed();
        assert!(matches!(UserKey::read(&path), Err(ConnectError::Credentials { .. })));
        assert!(matches!(UserKey::read(dir.path()), Err(ConnectError::Credentials { .. })));
        fs::write(&path, format!("{}\n", seed.as_str())).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let error = UserKey::read(&path).expect_err("open to others").to_string();
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        assert!(UserKey::read(&path).is_ok());
        fs::write(&path, &seed.as_str()[..57]).expect("written");
        let error = UserKey::read(&path).expect_err("cut short").to_string();
        assert!(error.contains("a.nk") && !error.contains(&seed.as_str()[..20]), "{error}");
    }
}
