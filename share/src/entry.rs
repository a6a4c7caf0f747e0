//! Entries: what a slice index says of each file, folder, link or device, and where its bytes lie.

use muster_protocol::wire;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Why an entry is not as the source holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// It changed while it was read, on every try; the bytes are those of the last try.
    Changed,
    /// It could not be read; the value is the errno. No bytes are kept.
    Unreadable(i32),
    /// It was listed and then gone.
    Vanished,
    /// A kind that is not kept (a socket).
    Skipped,
    /// Some of its extended attributes could not be read; the value is the first errno. Everything else is whole.
    Attributes(i32),
}

/// A run of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Bytes of a pack: `length` bytes at `offset` of its decompressed payload. `pack` is the agent's own number of the
    /// pack, resolved by the slice's pack lists.
    Data {
        /// Pack number.
        pack: u64,
        /// Offset in the decompressed payload, in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
    },
    /// A hole: zeroes that occupy no storage.
    Hole {
        /// Length in bytes.
        length: u64,
    },
}

impl Extent {
    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match *self {
            Self::Data { length, .. } | Self::Hole { length } => length,
        }
    }
}

/// Adds `next` to `extents`, merged with the last one where the two are adjacent.
pub fn push_extent(extents: &mut Vec<Extent>, next: Extent) {
    match (extents.last_mut(), next) {
        (
            Some(Extent::Data { pack, offset, length }),
            Extent::Data { pack: next_pack, offset: next_offset, length: more },
        ) if *pack == next_pack && *offset + *length == next_offset => *length += more,
        (Some(Extent::Hole { length }), Extent::Hole { length: more }) => *length += more,
        _ => extents.push(next),
    }
}

/// One entry of a source. Paths are raw bytes, relative to the source's root, parts joined by `/`; the root itself is
/// the empty path. Parents come before their children.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Path.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Kind.
    pub kind: Kind,
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Group's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Owner's name, where the source's system knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group's name, where the source's system knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Modification time: seconds since 1970.
    pub mtime_secs: i64,
    /// And nanoseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtime_nanos: u32,
    /// A file's length in bytes; the extents add up to it.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub size: u64,
    /// A symbolic link's target, raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ByteBuf>,
    /// A device's major and minor number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// The path of an earlier entry of this source that is the same file: a hard link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_link: Option<ByteBuf>,
    /// Extended attributes, POSIX ACLs among them (`system.posix_acl_access`), sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(ByteBuf, ByteBuf)>,
    /// A file's content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extents: Vec<Extent>,
    /// What is missing, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

impl Entry {
    /// An entry of this kind and path with everything else empty.
    #[must_use]
    pub fn new(path: Vec<u8>, kind: Kind, mode: u32) -> Self {
        Self {
            path,
            kind,
            mode,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime_secs: 0,
            mtime_nanos: 0,
            size: 0,
            target: None,
            device: None,
            hard_link: None,
            xattrs: Vec::new(),
            extents: Vec::new(),
            gap: None,
        }
    }

    /// The entry as MessagePack, without its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_zero_u64(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::{Entry, Extent, Gap, Kind, push_extent};
    use muster_protocol::wire;

    #[test]
    fn adjacent_extents_merge() {
        let mut extents = Vec::new();
        let data = |pack, offset, length| Extent::Data { pack, offset, length };
        for next in [
            data(1, 0, 5),
            data(1, 5, 5),
            Extent::Hole { length: 2 },
            Extent::Hole { length: 3 },
            data(1, 10, 1),
            data(2, 11, 1),
        ] {
            push_extent(&mut extents, next);
        }
        assert_eq!(extents, [data(1, 0, 10), Extent::Hole { length: 5 }, data(1, 10, 1), data(2, 11, 1)]);
    }

    #[test]
    fn entries_round_trip() {
        let mut entry = Entry::new(b"a/\xff".to_vec(), Kind::File, 0o644);
        entry.extents.push(Extent::Hole { length: 9 });
        entry.gap = Some(Gap::Unreadable(13));
        assert_eq!(wire::decode::<Entry>(&entry.encode()).expect("decodes"), entry);
    }
}
