//! The keys and the context that every target seals with, so that an input reaches what lies behind the seal; and a
//! writer of packs that may say anything of themselves.

use std::sync::LazyLock;

use muster_protocol::age::{FileKey, Identity, Recipient, Sealer, Stanza};
use muster_protocol::ids::{ChunkId, FleetId};
use muster_protocol::wire;
use muster_share::chunk::ChunkKey;
use muster_share::sealed::{CONTEXT_STANZA, PADDING_MAGIC, PackContext};
use serde::Serialize;

use super::input::Fixed;

/// Magic number of a pack's contents frame (module documentation of `muster_share::pack`).
pub(super) const CONTENTS_MAGIC: u32 = 0x184D_2A5D;
/// Magic number of a pack's trailer frame.
pub(super) const TRAILER_MAGIC: u32 = 0x184D_2A5F;

/// The one recipient of all.
pub(super) static KEY: LazyLock<Identity> = LazyLock::new(|| Identity::generate(&mut Fixed(1)));

pub(super) fn context() -> PackContext {
    PackContext {
        fleet: FleetId::from_bytes([3; 32]),
        service: "dns".parse().expect("a service name"),
        keyset: 1,
    }
}

/// A sealed object with this payload, whatever it is.
pub(super) fn seal(payload: &[u8]) -> (Vec<u8>, FileKey) {
    seal_to(payload, &[KEY.recipient()], &context())
}

/// The same to others, in another context.
pub(super) fn seal_to(payload: &[u8], recipients: &[Recipient], context: &PackContext) -> (Vec<u8>, FileKey) {
    let PackContext { fleet, service, keyset } = context;
    let args = vec!["1".to_owned(), fleet.to_string(), service.to_string(), keyset.to_string()];
    let stanza = Stanza { kind: CONTEXT_STANZA.to_owned(), args, body: Vec::new() };
    let mut sealer =
        Sealer::new(recipients, &[stanza], payload.len(), &mut Fixed(2)).expect("good recipients");
    sealer.write(payload);
    sealer.finish()
}

/// A skippable frame (RFC 8878 section 3.1.2).
pub(super) fn skippable(magic: u32, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("frames of tests are short");
    [&magic.to_le_bytes()[..], &len.to_le_bytes(), content].concat()
}

/// A table of contents as it is written.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Table {
    pub(super) version: u16,
    pub(super) frames: Vec<Row>,
}

/// One frame's row.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) compressed_len: u32,
    pub(super) chunks: Vec<(ChunkId, u32)>,
}

/// A pack's payload, part by part, each of which may lie.
#[derive(Debug, Clone)]
pub(super) struct RawPack {
    /// The zstd frames, joined.
    pub(super) frames: Vec<u8>,
    /// Zeroes in the padding frame; none: no padding.
    pub(super) padding: Option<usize>,
    /// The contents as MessagePack.
    pub(super) contents: Vec<u8>,
    /// Added to the true offset of the contents.
    pub(super) off_by: i64,
}

impl RawPack {
    /// An honest pack of these frames, each of these chunks.
    pub(super) fn of(frames: &[&[&[u8]]]) -> Self {
        Self::named(frames, &chunk_key())
    }

    /// The same under another chunk key.
    pub(super) fn named(frames: &[&[&[u8]]], key: &ChunkKey) -> Self {
        let mut table = Table { version: 1, frames: Vec::new() };
        let mut joined = Vec::new();
        for chunks in frames {
            let compressed = zstd::bulk::compress(&chunks.concat(), 3).expect("compresses");
            let chunks = chunks.iter().map(|chunk| (key.id(chunk), length(chunk))).collect();
            table.frames.push(Row { compressed_len: length(&compressed), chunks });
            joined.extend_from_slice(&compressed);
        }
        Self { frames: joined, padding: None, contents: wire::encode(&table), off_by: 0 }
    }

    /// The same frames under this table.
    pub(super) fn with(&self, table: &Table) -> Self {
        Self { contents: wire::encode(table), ..self.clone() }
    }

    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = self.frames.clone();
        if let Some(zeroes) = self.padding {
            payload.extend(skippable(PADDING_MAGIC, &vec![0; zeroes]));
        }
        let contents_at = (payload.len() as u64).wrapping_add_signed(self.off_by);
        payload.extend(skippable(CONTENTS_MAGIC, &self.contents));
        let payload_len = payload.len() as u64 + 32;
        let trailer = [&b"musterp1"[..], &contents_at.to_be_bytes(), &payload_len.to_be_bytes()].concat();
        payload.extend(skippable(TRAILER_MAGIC, &trailer));
        payload
    }
}

/// A chunk's name under the key of all targets.
pub(super) fn name(chunk: &[u8]) -> ChunkId {
    chunk_key().id(chunk)
}

pub(super) fn chunk_key() -> ChunkKey {
    ChunkKey::from_bytes([9; 32])
}

pub(super) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("chunks of tests are short")
}
