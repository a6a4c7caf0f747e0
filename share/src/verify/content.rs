//! Plain bytes out of packs, in the order of extents: how the entry stream is read back.
//!
//! Holds one sealed pack and one frame of it. Every chunk has its name before a byte of it is handed out.

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;
use muster_protocol::causes::causes;

use super::damage::{Damage, Trouble};
use crate::chunk::ChunkKey;
use crate::entry::Extent;
use crate::keys::Keyring;
use crate::layout::ObjectPath;
use crate::pack::{PackContext, PackReader};

/// What opens a slice's packs, and what they must say of themselves.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Recovery keys, or file keys.
    pub keys: &'a Keyring,
    /// The slice's chunk key.
    pub chunk_key: &'a ChunkKey,
    /// Whose packs they are.
    pub context: &'a PackContext,
}

/// A reader of the bytes that some extents name. Its errors are [`Trouble`] inside [`io::Error`].
pub struct ExtentReader<'a, F> {
    opening: Opening<'a>,
    extents: Vec<Extent>,
    at: usize,
    /// Bytes of the current extent that were handed out.
    done: u64,
    fetch: F,
    pack: Option<(u64, ObjectPath, Bytes)>,
    /// Plain bytes of one frame of `pack`, and where they lie in it.
    frame: (Range<u64>, Vec<u8>),
}

impl<F> std::fmt::Debug for ExtentReader<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtentReader").field("at", &self.at).field("done", &self.done).finish_non_exhaustive()
    }
}

impl<'a, F> ExtentReader<'a, F>
where
    F: FnMut(u64) -> Result<(ObjectPath, Bytes), Trouble>,
{
    /// A reader that gets pack numbers resolved, and their hashes compared, by `fetch`.
    pub fn new(opening: Opening<'a>, extents: Vec<Extent>, fetch: F) -> Self {
        Self { opening, extents, at: 0, done: 0, fetch, pack: None, frame: (0..0, Vec::new()) }
    }

    fn load(&mut self, number: u64, offset: u64) -> Result<(), Trouble> {
        if self.pack.as_ref().is_none_or(|(held, ..)| *held != number) {
            let (path, bytes) = (self.fetch)(number)?;
            self.pack = Some((number, path, bytes));
            self.frame = (0..0, Vec::new());
        }
        if self.frame.0.contains(&offset) {
            return Ok(());
        }
        let (_, path, bytes) = self.pack.as_ref().expect("it was set above");
        let damaged = |why: String| Trouble::from(Damage::content(path.clone(), why));
        let unlock = self.opening.keys.unlock(path);
        let reader = PackReader::open(bytes, None, unlock).map_err(|e| damaged(causes(&e)))?;
        if reader.context() != self.opening.context {
            return Err(damaged("it is sealed for another service or keyset".into()));
        }
        let mut start = 0;
        for frame in &reader.contents().frames {
            let end = start + frame.chunks.iter().map(|(_, len)| u64::from(*len)).sum::<u64>();
            if (start..end).contains(&offset) {
                let plain = reader.read_range(start, end).map_err(|e| damaged(causes(&e)))?;
                let mut rest = plain.as_slice();
                for (id, len) in &frame.chunks {
                    let (chunk, after) = rest.split_at(*len as usize);
                    if self.opening.chunk_key.id(chunk) != *id {
                        return Err(damaged(format!("chunk {id} has other bytes than its name says")));
                    }
                    rest = after;
                }
                self.frame = (start..end, plain);
                return Ok(());
            }
            start = end;
        }
        Err(damaged(format!("it has {start} plain bytes; the index wants what follows")))
    }
}

impl<F> Read for ExtentReader<'_, F>
where
    F: FnMut(u64) -> Result<(ObjectPath, Bytes), Trouble>,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(extent) = self.extents.get(self.at).copied() {
            let left = extent.length().saturating_sub(self.done);
            if left == 0 {
                (self.at, self.done) = (self.at + 1, 0);
                continue;
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let len = match extent {
                Extent::Hole { .. } => {
                    buffer[..most].fill(0);
                    most
                }
                Extent::Data { pack, offset, .. } => {
                    let place = offset.saturating_add(self.done);
                    self.load(pack, place).map_err(io::Error::other)?;
                    let from = usize::try_from(place - self.frame.0.start).map_err(io::Error::other)?;
                    let there = &self.frame.1[from..];
                    let len = most.min(there.len());
                    buffer[..len].copy_from_slice(&there[..len]);
                    len
                }
            };
            self.done += len as u64;
            return Ok(len);
        }
        Ok(0)
    }
}

/// The trouble inside an error of [`ExtentReader`], or damage of `index` for any other.
pub fn trouble(index: &ObjectPath, error: crate::lists::ListError) -> Trouble {
    let why = causes(&error);
    if let crate::lists::ListError::Io(error) = error
        && let Ok(trouble) = error.downcast::<Trouble>()
    {
        return trouble;
    }
    Damage::content(index.clone(), why).into()
}
