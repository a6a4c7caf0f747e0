//! Packing: chunks are named, known ones found, new ones compressed and appended to the open pack. Whoever fills a pack
//! seals it, checks it and hands it to the uploader; the others go on with the next one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_protocol::age::Recipient;
use muster_protocol::ids::ChunkId;
use muster_share::chunk::ChunkKey;
use muster_share::entropy::OsEntropy;
use muster_share::pack::{Compressor, Frame, PackBuilder, PackContext, SealedPack};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::EngineError;
use super::known::{Known, Sight};
use super::shared::Halt;
use crate::source::Stopped;
use crate::state::Place;

/// Plain bytes at which a frame is closed. Longer ones compress a little better and slower; a reader who wants one file
/// decompresses whole frames.
const FRAME_BYTES: usize = 256 * 1024;

/// A sealed pack on its way to the share.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) number: u64,
    pub(super) pack: SealedPack,
    /// Released when the pack's memory is.
    pub(super) permit: OwnedSemaphorePermit,
}

/// How this capture's packs are made.
pub(super) struct Sealing {
    pub(super) target_bytes: usize,
    pub(super) recipients: Vec<Recipient>,
    pub(super) context: PackContext,
    pub(super) key: ChunkKey,
    pub(super) self_check: bool,
    /// Changes frames before they are packed: what a broken machine does.
    #[cfg(test)]
    pub(super) tamper: Option<fn(&mut Frame)>,
}

/// The way of full packs.
pub(super) struct Outlet<'a> {
    pub(super) sealing: &'a Sealing,
    pub(super) halt: &'a Halt,
    pub(super) uploads: mpsc::Sender<Upload>,
    pub(super) runtime: Handle,
}

impl Outlet<'_> {
    fn seal(&self, open: Open) -> Result<(), Stopped> {
        // Few sealed packs may wait, or memory would grow while the share is slow.
        let permit =
            self.runtime.block_on(self.halt.permits().clone().acquire_owned()).map_err(|_| Stopped)?;
        let pack = self.halt.keep(open.builder.seal().map_err(EngineError::Pack))?;
        if self.sealing.self_check {
            let checked = pack.self_check(&self.sealing.key);
            self.halt.keep(checked.map_err(|source| EngineError::SelfCheck { id: pack.id, source }))?;
        }
        let upload = Upload { number: open.number, pack, permit };
        self.runtime.block_on(self.uploads.send(upload)).map_err(|_| Stopped)
    }
}

struct Open {
    number: u64,
    builder: PackBuilder,
}

/// Packs of one kind of content, filled one after the other.
pub(super) struct Lane<'a> {
    outlet: &'a Outlet<'a>,
    known: &'a Known,
    open: Mutex<Option<Open>>,
}

impl<'a> Lane<'a> {
    pub(super) fn new(outlet: &'a Outlet<'a>, known: &'a Known) -> Self {
        Self { outlet, known, open: Mutex::default() }
    }

    fn begin(&self) -> Result<Open, Stopped> {
        let Sealing { target_bytes, recipients, context, .. } = self.outlet.sealing;
        let memory = self.outlet.halt.memory();
        let begun = PackBuilder::new(*target_bytes, memory, recipients, context, &mut OsEntropy);
        let builder = self.outlet.halt.keep(begun.map_err(EngineError::Pack))?;
        Ok(Open { number: self.known.take_pack_number(), builder })
    }

    /// Adds a frame: where each of its chunks lies. A frame of which another thread has just packed everything is
    /// dropped.
    fn append(&self, frame: &Frame, places: &mut Vec<Place>) -> Result<(), Stopped> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pending = self.known.pending();
        let before = places.len();
        places.extend(frame.chunks.iter().map_while(|(id, _)| pending.get(id).copied()));
        if places.len() - before == frame.chunks.len() {
            return Ok(());
        }
        places.truncate(before);
        let pack = match &mut *open {
            Some(pack) => pack,
            none => none.insert(self.begin()?),
        };
        let mut offset = self.outlet.halt.keep(pack.builder.push(frame).map_err(EngineError::Pack))?;
        for (id, length) in &frame.chunks {
            let at = u32::try_from(offset).expect("MAX_PACK_PLAIN and one frame are less than 4 GiB");
            let place = Place { pack: pack.number, offset: at, length: *length };
            places.push(place);
            pending.insert(*id, place);
            offset += u64::from(*length);
        }
        drop(pending);
        let full = if pack.builder.is_full() { open.take() } else { None };
        drop(open);
        full.map_or(Ok(()), |full| self.outlet.seal(full))
    }

    /// Seals what is left.
    pub(super) fn finish(&self) -> Result<(), Stopped> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        open.map_or(Ok(()), |open| self.outlet.seal(open))
    }
}

/// One thread's means to pack chunks.
pub(super) struct Packer<'a> {
    lane: &'a Lane<'a>,
    compressor: Compressor,
    sight: Sight,
    ids: Vec<ChunkId>,
    found: Vec<Option<Place>>,
    /// New chunks at hand, each once: name and length, and where each starts.
    fresh: Vec<(ChunkId, u32)>,
    starts: Vec<usize>,
    /// Which of `fresh` has this name.
    seen: HashMap<ChunkId, usize>,
    /// Where the fresh ones lie.
    packed: Vec<Place>,
    frame: Frame,
    joined: Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(lane: &'a Lane<'a>, zstd_level: i32) -> Result<Self, EngineError> {
        Ok(Self {
            lane,
            compressor: Compressor::new(zstd_level).map_err(EngineError::Compressor)?,
            sight: lane.known.sight()?,
            ids: Vec::new(),
            found: Vec::new(),
            fresh: Vec::new(),
            starts: Vec::new(),
            seen: HashMap::new(),
            packed: Vec::new(),
            frame: Frame::default(),
            joined: Vec::new(),
        })
    }

    /// Packs the chunks that the start of `bytes` is joined of; `places` gets one for each.
    pub(super) fn pack(
        &mut self,
        bytes: &[u8],
        lengths: &[usize],
        places: &mut Vec<Place>,
    ) -> Result<(), Stopped> {
        if lengths.is_empty() {
            return Ok(());
        }
        let Lane { outlet, known, .. } = self.lane;
        let (halt, key) = (outlet.halt, &outlet.sealing.key);
        self.ids.clear();
        let mut rest = bytes;
        for length in lengths {
            let (chunk, after) = rest.split_at(*length);
            self.ids.push(key.id(chunk));
            rest = after;
        }
        halt.keep(
            known.find(&mut self.sight, &self.ids, lengths, &mut self.found).map_err(EngineError::State),
        )?;
        self.fresh.clear();
        self.starts.clear();
        self.seen.clear();
        let mut start = 0;
        for ((id, place), length) in self.ids.iter().zip(&self.found).zip(lengths) {
            if place.is_none() && !self.seen.contains_key(id) {
                self.seen.insert(*id, self.fresh.len());
                let length = u32::try_from(*length).expect("chunks are at most 8 MiB");
                self.fresh.push((*id, length));
                self.starts.push(start);
            }
            start += length;
        }
        self.compress_and_append(bytes)?;
        for (id, place) in self.ids.iter().zip(&self.found) {
            let fresh = || self.seen.get(id).and_then(|fresh| self.packed.get(*fresh).copied());
            places.push(place.or_else(fresh).expect("a chunk is found or fresh"));
        }
        Ok(())
    }

    /// Packs the fresh chunks in frames.
    fn compress_and_append(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        let Self { lane, compressor, fresh, starts, packed, frame, joined, .. } = self;
        packed.clear();
        let mut at = 0;
        while at < fresh.len() {
            let (mut end, mut len) = (at, 0);
            while end < fresh.len() && (len == 0 || len + fresh[end].1 as usize <= FRAME_BYTES) {
                len += fresh[end].1 as usize;
                end += 1;
            }
            let span = starts[at]..starts[end - 1] + fresh[end - 1].1 as usize;
            let plain = if span.len() == len {
                &bytes[span]
            } else {
                joined.clear();
                for ((_, length), start) in fresh[at..end].iter().zip(&starts[at..end]) {
                    joined.extend_from_slice(&bytes[*start..*start + *length as usize]);
                }
                joined.as_slice()
            };
            let halt = lane.outlet.halt;
            halt.keep(compressor.compress_into(plain, &fresh[at..end], frame).map_err(EngineError::Pack))?;
            #[cfg(test)]
            if let Some(tamper) = lane.outlet.sealing.tamper {
                tamper(frame);
            }
            lane.append(frame, packed)?;
            at = end;
        }
        Ok(())
    }
}
