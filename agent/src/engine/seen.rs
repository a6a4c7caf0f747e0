//! What the last capture saw of each file: its stamp and its entry. A file with the same stamp is not opened again.
//!
//! One file for each source in the agent's state folder, in the order of the walk, so that walking and reading it go side
//! by side: no look-ups, and no memory that grows with the tree. A cache, never the truth: it belongs to one memory of packs
//! (its `binding`), every record bears a check, and whatever is odd only means that files are read again.
//!
//! ```text
//! seen   := "muster seen 1\n" · binding (32 bytes) · record …
//! record := length of body as u32 · body · check (first 8 bytes of BLAKE3 over all before it in the record)
//! body   := path length u32 · packs u32 · owners u32 · stamp (40 bytes) · path · packs × (number u64, bytes u64) · entry
//! ```
//! Integers are big-endian; `entry` is the entry as the entry stream has it, without its length.

use std::cmp::Ordering;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_protocol::ids::SourceName;
use muster_share::entry::Entry;
use muster_share::lists::MAX_ENTRY_LEN;

use crate::source::Stamp;

const MAGIC: &[u8; 14] = b"muster seen 1\n";
const CHECK_LEN: usize = 8;
const FIXED_LEN: usize = 12 + Stamp::LEN;
const BUFFER_BYTES: usize = 128 * 1024;

/// Whom the records belong to: whoever has other packs under the same numbers has another one.
pub(super) type Binding = [u8; 32];

/// A file as it was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stamp: Stamp,
    /// Which packs its content lies in, and how many bytes of it in each.
    pub(super) packs: Vec<(u64, u64)>,
    /// The entry, encoded.
    pub(super) entry: Vec<u8>,
    path: Vec<u8>,
    owners: u32,
}

impl Record {
    pub(super) fn new(entry: &Entry, encoded: &[u8], stamp: Stamp, packs: Vec<(u64, u64)>) -> Self {
        Self { stamp, packs, entry: encoded.to_vec(), path: entry.path.clone(), owners: owners(entry) }
    }
}

/// Where the records of this source lie.
fn path(folder: &Path, source: &SourceName) -> PathBuf {
    folder.join(format!("{source}.seen"))
}

/// Names of owners may change without a change of the file.
fn owners(entry: &Entry) -> u32 {
    let mut hasher = blake3::Hasher::new();
    for name in [&entry.user, &entry.group] {
        hasher.update(name.as_deref().unwrap_or_default().as_bytes()).update(&[0]);
    }
    let hash = hasher.finalize();
    u32::from_be_bytes(*hash.as_bytes().first_chunk().expect("32 bytes are more than four"))
}

/// The order of the walk: part by part, a folder before what lies in it.
fn order(one: &[u8], two: &[u8]) -> Ordering {
    // No name holds NUL, so that it may stand for the slash, which then comes before all other bytes.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.iter().map(key).cmp(two.iter().map(key))
}

fn check(len: &[u8], body: &[u8]) -> [u8; CHECK_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(len).update(body);
    *hasher.finalize().as_bytes().first_chunk().expect("32 bytes are more than eight")
}

/// Reads what was seen, side by side with a walk.
pub(super) struct SeenReader {
    from: Option<BufReader<File>>,
    path: PathBuf,
    body: Vec<u8>,
    next: Option<Record>,
    names: (Option<String>, Option<String>, u32),
}

impl SeenReader {
    /// The records of this source, if there are some for this binding.
    pub(super) fn open(folder: &Path, source: &SourceName, binding: &Binding) -> Option<Self> {
        let path = path(folder, source);
        let mut from = BufReader::with_capacity(BUFFER_BYTES, File::open(&path).ok()?);
        let mut head = [0; MAGIC.len() + size_of::<Binding>()];
        from.read_exact(&mut head).ok()?;
        let ours = head.starts_with(MAGIC) && head.ends_with(binding);
        ours.then(|| Self {
            from: Some(from),
            path,
            body: Vec::new(),
            next: None,
            names: (None, None, owners(&Entry::new(Vec::new(), muster_share::entry::Kind::File, 0))),
        })
    }

    /// The file of this entry, if it was seen with this stamp and these owners. Files are asked for in the order of the
    /// walk.
    pub(super) fn find(&mut self, entry: &Entry, stamp: &Stamp) -> Option<Record> {
        loop {
            if self.next.is_none() {
                self.advance();
            }
            match order(&self.next.as_ref()?.path, &entry.path) {
                Ordering::Less => self.next = None,
                Ordering::Greater => return None,
                Ordering::Equal => {
                    let owners = self.owners(entry);
                    return self.next.take().filter(|seen| seen.stamp == *stamp && seen.owners == owners);
                }
            }
        }
    }

    /// As [`owners`]; most files have those of the one before.
    fn owners(&mut self, entry: &Entry) -> u32 {
        let (user, group, known) = &self.names;
        if (user, group) == (&entry.user, &entry.group) {
            return *known;
        }
        let fresh = owners(entry);
        self.names = (entry.user.clone(), entry.group.clone(), fresh);
        fresh
    }

    fn advance(&mut self) {
        let Some(from) = &mut self.from else { return };
        self.next = read_record(from, &mut self.body).unwrap_or_else(|error| {
            let path = self.path.display();
            tracing::warn!(%path, %error, "what was seen of the files is damaged; the rest is read again");
            None
        });
        if self.next.is_none() {
            self.from = None;
        }
    }
}

/// The next record; `None` at the end.
fn read_record(from: &mut impl Read, body: &mut Vec<u8>) -> io::Result<Option<Record>> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let mut len = [0; 4];
    if from.read(&mut len[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut len[1..])?;
    let body_len = u32::from_be_bytes(len) as usize;
    // Its packs are named in its extents, too, so that both are of about one length.
    if !(FIXED_LEN..=4 * MAX_ENTRY_LEN).contains(&body_len) {
        return Err(damaged());
    }
    body.resize(body_len, 0);
    from.read_exact(body)?;
    let mut have = [0; CHECK_LEN];
    from.read_exact(&mut have)?;
    if have != check(&len, body) {
        return Err(damaged());
    }
    parse(body).map(Some).ok_or_else(damaged)
}

fn parse(body: &[u8]) -> Option<Record> {
    let mut rest = body;
    let path_len = u32::from_be_bytes(take(&mut rest)?) as usize;
    let packs_len = u32::from_be_bytes(take(&mut rest)?) as usize;
    let owners = u32::from_be_bytes(take(&mut rest)?);
    let stamp = Stamp::from_bytes(&take(&mut rest)?);
    let (path, mut rest) = rest.split_at_checked(path_len)?;
    let mut packs = Vec::with_capacity(packs_len.min(rest.len() / 16));
    for _ in 0..packs_len {
        packs.push((u64::from_be_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?)));
    }
    Some(Record { stamp, packs, entry: rest.to_vec(), path: path.to_vec(), owners })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// Writes what a capture sees; it counts once it is finished.
#[derive(Debug)]
pub(super) struct SeenWriter {
    /// Nothing once writing has failed: then there will be no cache, which is no reason to fail a slice.
    to: Option<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
    body: Vec<u8>,
}

impl SeenWriter {
    pub(super) fn create(folder: &Path, source: &SourceName, binding: &Binding) -> Self {
        let path = path(folder, source);
        let temporary = path.with_extension("seen-new");
        let create = || {
            fs::create_dir_all(folder)?;
            let file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            let mut to = BufWriter::with_capacity(BUFFER_BYTES, file);
            to.write_all(MAGIC)?;
            to.write_all(binding)?;
            Ok(to)
        };
        let mut here = Self { to: None, temporary: temporary.clone(), path, body: Vec::new() };
        here.to = here.noted(create());
        here
    }

    pub(super) fn write(&mut self, record: &Record) {
        let Some(to) = &mut self.to else { return };
        let Record { stamp, packs, entry, path, owners } = record;
        let body = &mut self.body;
        body.clear();
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        body.extend_from_slice(&count(path.len()));
        body.extend_from_slice(&count(packs.len()));
        body.extend_from_slice(&owners.to_be_bytes());
        body.extend_from_slice(&stamp.to_bytes());
        body.extend_from_slice(path);
        for (number, bytes) in packs {
            body.extend_from_slice(&number.to_be_bytes());
            body.extend_from_slice(&bytes.to_be_bytes());
        }
        body.extend_from_slice(entry);
        let len = count(body.len());
        let check = check(&len, body);
        let written = [&len[..], body, &check].iter().try_for_each(|part| to.write_all(part));
        if self.noted(written).is_none() {
            self.to = None;
        }
    }

    /// Takes the place of what was seen before.
    pub(super) fn finish(mut self) {
        let Some(mut to) = self.to.take() else { return };
        let done = to.flush().and_then(|()| fs::rename(&self.temporary, &self.path));
        self.noted(done);
    }

    fn noted<T>(&self, done: io::Result<T>) -> Option<T> {
        done.inspect_err(|error| {
            let path = self.path.display();
            tracing::warn!(%path, %error, "what was seen of the files cannot be kept; they will be read again");
        })
        .ok()
    }
}
