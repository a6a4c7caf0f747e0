//! Secrets in every spelling in which they could leak, and where they turn up.
//!
//! A key is looked for as raw bytes, in hexadecimal, as a list of numbers, and in base64, base32 and bech32, which spell
//! the same bytes differently by what stands before them: each of those shifts is a spelling of its own.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXUPPER};
use muster_bus::UserKey;
use muster_protocol::pem;

/// How much of a spelling is looked up at once; every spelling is at least as long.
const START: usize = 8;

/// Secrets that are looked for together.
#[derive(Debug, Default)]
pub struct Secrets {
    spellings: Vec<(String, Vec<u8>)>,
    /// Spellings by how they start.
    starts: HashMap<[u8; START], Vec<usize>>,
}

impl Secrets {
    /// Adds a key of these raw bytes.
    ///
    /// # Panics
    /// When it is shorter than 16 bytes: it would be found by chance.
    pub fn key(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 16, "{name} is too short to be looked for");
        self.spelling(name, "raw bytes", bytes.to_vec());
        self.spelling(name, "hexadecimal", HEXLOWER.encode(bytes).into_bytes());
        self.spelling(name, "hexadecimal", HEXUPPER.encode(bytes).into_bytes());
        let list = format!("{bytes:?}");
        self.spelling(name, "a list of numbers", list.trim_matches(['[', ']']).as_bytes().to_vec());
        let list = list.replace(' ', "");
        self.spelling(name, "a list of numbers", list.trim_matches(['[', ']']).as_bytes().to_vec());
        for before in 0..3 {
            let shifted = [vec![0; before], bytes.to_vec()].concat();
            self.shifted(name, "base64", before, bytes.len(), 6, STANDARD_NO_PAD.encode(&shifted));
            self.shifted(name, "base64", before, bytes.len(), 6, URL_SAFE_NO_PAD.encode(&shifted));
        }
        for before in 0..5 {
            let shifted = [vec![0; before], bytes.to_vec()].concat();
            self.shifted(name, "base32", before, bytes.len(), 5, BASE32_NOPAD.encode(&shifted));
            let bech32: String = BASE32_NOPAD.encode(&shifted).chars().map(bech32_letter).collect();
            self.shifted(name, "bech32", before, bytes.len(), 5, bech32.to_uppercase());
            self.shifted(name, "bech32", before, bytes.len(), 5, bech32);
        }
    }

    /// Adds a text that may stand nowhere.
    ///
    /// # Panics
    /// When it is shorter than 16 bytes.
    pub fn text(&mut self, name: &str, text: &str) {
        self.key(name, text.as_bytes());
    }

    /// Adds every private key that lies in files at or below `folder`; how many these are.
    ///
    /// # Panics
    /// When a file cannot be read, or holds a key that does not parse.
    pub fn keys_below(&mut self, folder: &Path) -> usize {
        let mut found = 0;
        for file in files(folder) {
            let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
            let bytes = fs::read(&file).expect("a file of the fleet");
            for key in keys_of(&bytes) {
                self.key(&name, &key);
                found += 1;
            }
        }
        found
    }

    /// Which secrets stand in these bytes, and how they are spelled there.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (at, start) in bytes.windows(START).enumerate() {
            let Some(candidates) = self.starts.get(start) else { continue };
            for (name, spelling) in candidates.iter().map(|index| &self.spellings[*index]) {
                if bytes[at..].starts_with(spelling) {
                    found.push(format!("{name} at byte {at}"));
                }
            }
        }
        found
    }

    /// Letters of a text in which each letter has `bits` bits, without those that share bits with the bytes around.
    fn shifted(&mut self, name: &str, how: &str, before: usize, len: usize, bits: usize, text: String) {
        let (first, end) = ((8 * before).div_ceil(bits), 8 * (before + len) / bits);
        self.spelling(name, how, text.into_bytes()[first..end].to_vec());
    }

    fn spelling(&mut self, name: &str, how: &str, bytes: Vec<u8>) {
        let start = bytes[..START].try_into().expect("long enough");
        self.starts.entry(start).or_default().push(self.spellings.len());
        self.spellings.push((format!("{name} as {how}"), bytes));
    }
}

/// All files at or below a path, sorted; what goes away meanwhile is passed over.
#[must_use]
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => left.extend(entries.flatten().map(|entry| entry.path())),
            Err(_) if path.is_file() => found.push(path),
            Err(_) => {}
        }
    }
    found.sort();
    found
}

/// The raw bytes as an age identity: `AGE-SECRET-KEY-1…`. For keys that were made for something else.
#[must_use]
pub fn age_identity(raw: &[u8; 32]) -> String {
    let hrp = bech32::Hrp::parse("AGE-SECRET-KEY-").expect("the prefix of age identities");
    bech32::encode_upper::<bech32::Bech32>(hrp, raw).expect("32 bytes fit")
}

/// The private keys in a key file: PEM, age identities, hexadecimal keys, NATS seeds.
#[must_use]
pub fn keys_of(file: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(file) else { return Vec::new() };
    if text.contains("BEGIN PRIVATE KEY") {
        // A key of another kind, such as that of a server's certificate, is none of the fleet's.
        return pem::signing_key_from_pem(text).map(|key| key.seed().to_vec()).into_iter().collect();
    }
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(data) = line.strip_prefix("AGE-SECRET-KEY-1") {
            let base32: String = data.chars().take(52).map(base32_letter).collect();
            keys.push(bits_to_bytes(&base32));
        } else if line.len() == 64 && text.trim().len() == 64 {
            keys.extend(HEXLOWER.decode(line.as_bytes()));
        } else if let Some(key) = UserKey::from_seed(line) {
            let raw = BASE32_NOPAD.decode(key.seed().as_bytes()).expect("a seed is base32");
            keys.push(raw[2..34].to_vec());
        }
    }
    keys
}

/// 52 letters of base32 hold 32 bytes and 4 bits that are zero.
fn bits_to_bytes(base32: &str) -> Vec<u8> {
    BASE32_NOPAD.decode(base32.as_bytes()).expect("an age identity holds 32 bytes")
}

const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// The alphabet of bech32 (BIP 173).
const BECH32: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

fn bech32_letter(base32: char) -> char {
    translate(BASE32, BECH32, base32)
}

fn base32_letter(bech32: char) -> char {
    translate(BECH32, BASE32, bech32.to_ascii_lowercase())
}

fn translate(from: &str, to: &str, letter: char) -> char {
    let at = from.find(letter).unwrap_or_else(|| panic!("{letter} is no letter of {from}"));
    char::from(to.as_bytes()[at])
}

#[cfg(test)]
mod tests {
    use super::{Secrets, keys_of};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use muster_bus::{Credentials, NatsConfig, Streams, UserKey};
    use muster_protocol::age::{FileKey, Identity};
    use muster_protocol::entropy::Entropy;
    use muster_protocol::envelope::Signer;
    use muster_protocol::ids::{FleetId, KeyId, Nonce, ObjectId, RestoreId, RoundId, hex};
    use muster_protocol::pem;
    use muster_protocol::session::{Ephemeral, Session, Side, Transcript};
    use muster_share::chunk::ChunkKey;
    use muster_share::grant::Grant;
    use muster_share::keys::Keyring;
    use muster_share::lists::IndexRoot;
    use muster_share::sealed::{PackContext, Unlock, seal_object};
    use std::fmt::Debug;
    use std::sync::Arc;

    /// 32 bytes that no other text holds by chance.
    const KEY: [u8; 32] = *b"\x07\xe5secret\x99\xfe of these tests: bytes";

    /// Gives the secret, whoever asks.
    struct Leak;
    impl Entropy for Leak {
        fn fill(&mut self, buffer: &mut [u8]) {
            for (byte, secret) in buffer.iter_mut().zip(KEY.iter().cycle()) {
                *byte = *secret;
            }
        }
    }

    fn secrets() -> Secrets {
        let mut secrets = Secrets::default();
        secrets.key("key", &KEY);
        secrets.key("file key", &KEY[..16]);
        secrets
    }

    fn hidden(what: &str, value: &(impl Debug + ?Sized)) {
        for shown in [format!("{value:?}"), format!("{value:#?}")] {
            let found = secrets().found_in(shown.as_bytes());
            assert!(found.is_empty(), "Debug of {what} shows {found:?}: {shown}");
        }
    }

    #[test]
    fn a_key_is_found_in_every_spelling() {
        let identity = Identity::generate(&mut Leak);
        let signer = Signer::from_seed(&KEY);
        let spellings: [(&str, Vec<u8>); 10] = [
            ("raw", [b"before".as_slice(), &KEY, b"after"].concat()),
            ("hex", hex(&KEY).into_bytes()),
            ("HEX", hex(&KEY).to_uppercase().into_bytes()),
            ("Debug", format!("{KEY:?}").into_bytes()),
            ("JSON", format!("{KEY:?}").replace(' ', "").into_bytes()),
            ("PEM", pem::signing_key_to_pem(&signer).as_bytes().to_vec()),
            ("base64, one byte later", STANDARD.encode([b"x".as_slice(), &KEY].concat()).into_bytes()),
            (
                "base64, two bytes later",
                STANDARD.encode([b"xy".as_slice(), &KEY, b"z"].concat()).into_bytes(),
            ),
            ("age identity", identity.to_file_text("now").as_bytes().to_vec()),
            ("NATS seed", UserKey::from_random(&KEY).seed().as_bytes().to_vec()),
        ];
        for (what, bytes) in spellings {
            assert!(!secrets().found_in(&bytes).is_empty(), "{what}");
            assert!(secrets().found_in(&bytes[..bytes.len() / 3]).is_empty(), "a part of {what}");
        }
        assert!(secrets().found_in(&[7; 4096]).is_empty());
    }

    #[test]
    fn keys_are_read_out_of_their_files() {
        for (what, text) in [
            ("PEM", pem::signing_key_to_pem(&Signer::from_seed(&KEY)).to_string()),
            ("age", Identity::generate(&mut Leak).to_file_text("now").to_string()),
            ("hex", hex(&KEY) + "\n"),
            ("nkey", UserKey::from_random(&KEY).seed().to_string() + "\n"),
        ] {
            assert_eq!(keys_of(text.as_bytes()), [KEY.to_vec()], "{what}");
        }
        assert!(keys_of(pem::public_key_to_pem(&Signer::from_seed(&KEY).key_id()).as_bytes()).is_empty());
    }

    #[test]
    fn debug_of_what_signs_and_agrees_shows_no_secret() {
        hidden("Signer", &Signer::from_seed(&KEY));
        hidden("Identity", &Identity::generate(&mut Leak));
        hidden("UserKey", &UserKey::from_random(&KEY));
        let own = Ephemeral::generate(&mut Leak);
        hidden("Ephemeral", &own);
        let transcript = Transcript {
            fleet: FleetId::from_bytes([1; 32]),
            round: RoundId::from_bytes([2; 16]),
            epoch: 3,
            leader: KeyId::from_bytes([4; 32]),
            agent: KeyId::from_bytes([5; 32]),
            leader_ephemeral: own.public(),
            agent_ephemeral: own.public(),
            nonce: Nonce::from_bytes([6; 16]),
        };
        hidden("Session", &Session::derive(Side::Agent, &own, &transcript).expect("derives"));
        let streams = Streams::new("test", "state", "queue").expect("streams");
        let nats = NatsConfig {
            credentials: Credentials::Nkey(Arc::new(UserKey::from_random(&KEY))),
            ..NatsConfig::new(format!("nats://user:{}@127.0.0.1", hex(&KEY)), "test", streams)
        };
        hidden("NatsConfig", &nats);
    }

    #[test]
    fn debug_of_what_seals_shows_no_secret() {
        let file_key: [u8; 16] = KEY[..16].try_into().expect("16 bytes");
        let file_key = FileKey::from_bytes(&file_key);
        hidden("FileKey", &file_key);
        hidden("Unlock", &Unlock::FileKey(&file_key));
        hidden("ChunkKey", &ChunkKey::from_bytes(KEY));
        let keys = [(ObjectId::of(b"a"), file_key)].into();
        let grant = Grant {
            fleet: FleetId::from_bytes([1; 32]),
            service: "dns".parse().expect("a name"),
            round: RoundId::from_bytes([2; 16]),
            restore: RestoreId::from_bytes([3; 16]),
            receipt: ObjectId::of(b"b"),
            keys,
        };
        hidden("Grant", &grant);
        hidden("Keyring", &Keyring::Granted(Arc::new(grant.keys.clone())));
        let own = Identity::generate(&mut Leak);
        let context = PackContext {
            fleet: FleetId::from_bytes([1; 32]),
            service: "dns".parse().expect("a name"),
            keyset: 1,
        };
        let sealed = seal_object(b"content", &[own.recipient()], &context, &mut Leak).expect("seals");
        assert_eq!(sealed.file_key.expose(), &KEY[..16], "the test's randomness is the file key");
        hidden("SealedObject", &sealed);
        hidden("Keyring", &Keyring::Recovery(Arc::new(vec![own])));
        let index = IndexRoot {
            service: "dns".parse().expect("a name"),
            round: RoundId::from_bytes([1; 16]),
            chunk_key: ChunkKey::from_bytes(KEY),
            sources: Vec::new(),
            totals: muster_protocol::document::SliceTotals::default(),
            entries: Vec::new(),
            entries_bytes: 0,
        };
        hidden("IndexRoot", &index);
    }
}
