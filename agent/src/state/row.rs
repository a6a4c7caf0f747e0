//! Rows that bear a check over their key and value: a flipped bit in the place of a chunk would name other bytes.
//! Guards against damage, not against forgery: the key is no secret.

use muster_protocol::ids::ChunkId;
use muster_protocol::wire;

/// Length of the check at the end of a checked value: the first bytes of BLAKE3 over key and value.
const CHECK_LEN: usize = 8;

fn check(key: &[u8], value: &[u8]) -> [u8; CHECK_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes()).update(key).update(value);
    *hasher.finalize().as_bytes().first_chunk().expect("32 bytes are more than eight")
}

/// The value of this key with its check.
pub(super) fn checked(key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &check(key, value)].concat()
}

/// What [`checked`] made, if it is undamaged.
pub(super) fn unchecked<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, have) = value.split_last_chunk::<CHECK_LEN>()?;
    (*have == check(key, value)).then_some(value)
}

pub(super) fn place_check(id: &ChunkId, pack: u64, offset: u32, length: u32) -> u32 {
    let mut bytes = [0; ChunkId::LEN + 16];
    bytes[..ChunkId::LEN].copy_from_slice(id.as_bytes());
    bytes[ChunkId::LEN..][..8].copy_from_slice(&pack.to_be_bytes());
    bytes[ChunkId::LEN + 8..][..4].copy_from_slice(&offset.to_be_bytes());
    bytes[ChunkId::LEN + 12..].copy_from_slice(&length.to_be_bytes());
    u32::from_be_bytes(*blake3::hash(&bytes).as_bytes().first_chunk().expect("32 bytes are more than four"))
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(key: &[u8], value: &[u8]) -> Option<T> {
    wire::decode(unchecked(key, value)?).ok()
}
