//! Packing: chunks are named, known ones found, new ones compressed and appended to the open pack. Whoever fills a pack
//! seals it, checks it and hands it to the uploader; the others go on with the next one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_protocol::age::Recipient;
use muster_protocol::ids::ChunkId;
use muster_share::chunk::ChunkKey;
use muster_share::entropy::OsEntropy;
use muster_share::pack::{Compressor, Frame, PackBuilder, PackContext, SealedPack, compress};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::EngineError;
use super::known::{Known, Sight};
use super::shared::Halt;
use crate::source::Stopped;
use crate::state::Place;

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
        // Fewer sealed packs than workers may wait, or memory would grow while the share is slow.
        let permit =
            self.runtime.block_on(self.halt.permits().clone().acquire_owned()).map_err(|_| Stopped)?;
        let sealing = self.runtime.block_on(self.halt.sealing().acquire()).map_err(|_| Stopped)?;
        let pack = self.halt.keep(open.builder.seal().map_err(EngineError::Pack))?;
        if self.sealing.self_check {
            let checked = pack.self_check(&self.sealing.key);
            self.halt.keep(checked.map_err(|source| EngineError::SelfCheck { id: pack.id, source }))?;
        }
        drop(sealing);
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

    /// Adds a frame of these chunks (names and lengths): where each lies. A frame of which another thread has just
    /// packed everything is dropped.
    fn append(&self, frame: Frame, chunks: &[(ChunkId, u32)]) -> Result<Vec<Place>, Stopped> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pending = self.known.pending();
        let already: Option<Vec<Place>> = chunks.iter().map(|(id, _)| pending.get(id).copied()).collect();
        if let Some(places) = already {
            return Ok(places);
        }
        let sealing = self.outlet.sealing;
        let pack = match &mut *open {
            Some(pack) => pack,
            none => {
                let Sealing { target_bytes, recipients, context, .. } = sealing;
                let begun = PackBuilder::new(*target_bytes, Vec::new(), recipients, context, &mut OsEntropy);
                let builder = self.outlet.halt.keep(begun.map_err(EngineError::Pack))?;
                none.insert(Open { number: self.known.take_pack_number(), builder })
            }
        };
        let mut offset = self.outlet.halt.keep(pack.builder.push(&frame).map_err(EngineError::Pack))?;
        let mut places = Vec::with_capacity(chunks.len());
        for (id, length) in chunks {
            let at = u32::try_from(offset).expect("MAX_PACK_PLAIN and one frame are less than 4 GiB");
            let place = Place { pack: pack.number, offset: at, length: *length };
            places.push(place);
            pending.insert(*id, place);
            offset += u64::from(*length);
        }
        drop(pending);
        let full = if pack.builder.is_full() { open.take() } else { None };
        drop(open);
        if let Some(full) = full {
            self.outlet.seal(full)?;
        }
        Ok(places)
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
    /// New chunks of the job at hand, each once: name, start, length.
    fresh: Vec<(ChunkId, usize, u32)>,
    /// Which of `fresh` has this name.
    seen: HashMap<ChunkId, usize>,
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
            seen: HashMap::new(),
        })
    }

    /// Packs the chunks that `bytes` is joined of; `places` gets one for each.
    pub(super) fn pack(
        &mut self,
        bytes: &[u8],
        lengths: &[usize],
        places: &mut Vec<Place>,
    ) -> Result<(), Stopped> {
        let Lane { outlet, known, .. } = self.lane;
        let (halt, key) = (outlet.halt, &outlet.sealing.key);
        self.ids.clear();
        let mut rest = bytes;
        for length in lengths {
            let (chunk, after) = rest.split_at(*length);
            self.ids.push(key.id(chunk));
            rest = after;
        }
        halt.keep(known.find(&mut self.sight, &self.ids, &mut self.found).map_err(EngineError::State))?;
        self.fresh.clear();
        self.seen.clear();
        let mut start = 0;
        for ((id, place), length) in self.ids.iter().zip(&self.found).zip(lengths) {
            if place.is_none() && !self.seen.contains_key(id) {
                self.seen.insert(*id, self.fresh.len());
                let length = u32::try_from(*length).expect("chunks are at most 8 MiB");
                self.fresh.push((*id, start, length));
            }
            start += length;
        }
        let mut packed = Vec::new();
        if !self.fresh.is_empty() {
            let parts: Vec<(&[u8], ChunkId)> = self
                .fresh
                .iter()
                .map(|(id, start, length)| (&bytes[*start..*start + *length as usize], *id))
                .collect();
            let frame = compress(&mut self.compressor, &parts).map_err(EngineError::Pack);
            #[cfg_attr(not(test), expect(unused_mut, reason = "only tests change frames"))]
            let mut frame = halt.keep(frame)?;
            #[cfg(test)]
            if let Some(tamper) = outlet.sealing.tamper {
                tamper(&mut frame);
            }
            let chunks: Vec<(ChunkId, u32)> =
                self.fresh.iter().map(|(id, _, length)| (*id, *length)).collect();
            packed = self.lane.append(frame, &chunks)?;
        }
        for (id, place) in self.ids.iter().zip(&self.found) {
            let place = place.or_else(|| self.seen.get(id).and_then(|fresh| packed.get(*fresh).copied()));
            places.push(place.expect("a chunk is found or fresh"));
        }
        Ok(())
    }
}
