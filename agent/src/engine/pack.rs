//! Packing: chunks are named, known ones found, new ones compressed and appended to the open pack. Whoever fills a pack
//! seals it, checks it and hands it to the uploader; the others go on with the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use muster_protocol::age::Recipient;
use muster_protocol::ids::ChunkId;
use muster_share::chunk::ChunkKey;
use muster_share::entropy::OsEntropy;
use muster_share::pack::{Compressor, Frame, PackBuilder, PackContext, SealedPack};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::activity::{Activities, Activity};
use super::error::EngineError;
use super::known::{Claim, Known, PlacesError, Sight};
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
    pub(super) activities: &'a Activities,
    pub(super) uploads: mpsc::Sender<Upload>,
    pub(super) runtime: Handle,
}

impl Outlet<'_> {
    fn seal(&self, open: Open) -> Result<(), Stopped> {
        let Open { number, builder, permit } = open;
        let since = Instant::now();
        let pack = self.halt.keep(builder.seal().map_err(EngineError::Pack))?;
        self.activities.did(Activity::Seal, 0, since);
        if self.sealing.self_check {
            let since = Instant::now();
            let checked = pack.self_check(&self.sealing.key);
            self.activities.did(Activity::SelfCheck, pack.plain_len, since);
            self.halt.keep(checked.map_err(|source| EngineError::SelfCheck { id: pack.id, source }))?;
        }
        let upload = Upload { number, pack, permit };
        self.runtime.block_on(self.uploads.send(upload)).map_err(|_| Stopped)
    }
}

struct Open {
    number: u64,
    builder: PackBuilder,
    permit: OwnedSemaphorePermit,
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
        // Few packs may be in memory, or it would grow while the share is slow. Sealed ones go without this lane's lock.
        let permits = Arc::clone(self.outlet.halt.permits());
        let permit = self.outlet.runtime.block_on(permits.acquire_owned()).map_err(|_| Stopped)?;
        let Sealing { target_bytes, recipients, context, .. } = self.outlet.sealing;
        let memory = self.outlet.halt.memory();
        let begun = PackBuilder::new(*target_bytes, memory, recipients, context, &mut OsEntropy);
        let builder = self.outlet.halt.keep(begun.map_err(EngineError::Pack))?;
        Ok(Open { number: self.known.take_pack_number(), builder, permit })
    }

    /// Adds a frame of chunks that whoever calls has claimed.
    fn append(&self, frame: &Frame) -> Result<(), Stopped> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let pack = match &mut *open {
            Some(pack) => pack,
            none => none.insert(self.begin()?),
        };
        let since = Instant::now();
        let mut offset = self.outlet.halt.keep(pack.builder.push(frame).map_err(EngineError::Pack))?;
        self.outlet.activities.did(Activity::Seal, plain_len(frame), since);
        let number = pack.number;
        self.known.packed(frame.chunks.iter().map(|(id, length)| {
            let at = u32::try_from(offset).expect("MAX_PACK_PLAIN and one frame are less than 4 GiB");
            offset += u64::from(*length);
            (*id, Place { pack: number, offset: at, length: *length })
        }));
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
    /// Which of `chunks` each chunk of the part is.
    order: Vec<usize>,
    /// The part's chunks, each once: name and length; where it starts in the part, what became of it, where it lies.
    chunks: Vec<(ChunkId, u32)>,
    starts: Vec<usize>,
    claims: Vec<Claim>,
    places: Vec<Place>,
    /// Which of `chunks` has this name.
    seen: HashMap<ChunkId, usize>,
    /// The claimed ones, and where they start.
    own: Vec<(ChunkId, u32)>,
    own_starts: Vec<usize>,
    frame: Frame,
    joined: Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(lane: &'a Lane<'a>, zstd_level: i32) -> Result<Self, EngineError> {
        Ok(Self {
            lane,
            compressor: Compressor::new(zstd_level).map_err(EngineError::Compressor)?,
            sight: lane.known.sight()?,
            order: Vec::new(),
            chunks: Vec::new(),
            starts: Vec::new(),
            claims: Vec::new(),
            places: Vec::new(),
            seen: HashMap::new(),
            own: Vec::new(),
            own_starts: Vec::new(),
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
        let since = Instant::now();
        self.name(bytes, lengths);
        let Lane { outlet, known, .. } = self.lane;
        let halt = outlet.halt;
        let claimed = known.claim(&mut self.sight, &self.chunks, &mut self.claims);
        outlet.activities.did(Activity::Chunk, 0, since);
        halt.keep(claimed.map_err(EngineError::State))?;
        self.own.clear();
        self.own_starts.clear();
        for ((chunk, start), claim) in self.chunks.iter().zip(&self.starts).zip(&self.claims) {
            if *claim == Claim::Own {
                self.own.push(*chunk);
                self.own_starts.push(*start);
            }
        }
        self.compress_and_append(bytes)?;
        let learnt = known.places(&mut self.sight, &self.chunks, &self.claims, halt, &mut self.places);
        halt.keep(match learnt {
            Ok(()) => Ok(()),
            Err(PlacesError::Stopped) => return Err(Stopped),
            Err(PlacesError::State(error)) => Err(EngineError::State(error)),
            Err(PlacesError::Lost) => Err(EngineError::Crashed),
        })?;
        places.extend(self.order.iter().map(|at| self.places[*at]));
        Ok(())
    }

    /// Names the chunks, each once.
    fn name(&mut self, bytes: &[u8], lengths: &[usize]) {
        let key = &self.lane.outlet.sealing.key;
        self.order.clear();
        self.chunks.clear();
        self.starts.clear();
        self.seen.clear();
        let mut start = 0;
        for length in lengths {
            let id = key.id(&bytes[start..start + length]);
            let at = *self.seen.entry(id).or_insert(self.chunks.len());
            if at == self.chunks.len() {
                let length = u32::try_from(*length).expect("chunks are at most 8 MiB");
                self.chunks.push((id, length));
                self.starts.push(start);
            }
            self.order.push(at);
            start += length;
        }
    }

    /// Packs the claimed chunks in frames.
    fn compress_and_append(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        let Self { lane, compressor, own, own_starts: starts, frame, joined, .. } = self;
        let mut at = 0;
        while at < own.len() {
            let (mut end, mut len) = (at, 0);
            while end < own.len() && (len == 0 || len + own[end].1 as usize <= FRAME_BYTES) {
                len += own[end].1 as usize;
                end += 1;
            }
            let span = starts[at]..starts[end - 1] + own[end - 1].1 as usize;
            let plain = if span.len() == len {
                &bytes[span]
            } else {
                joined.clear();
                for ((_, length), start) in own[at..end].iter().zip(&starts[at..end]) {
                    joined.extend_from_slice(&bytes[*start..*start + *length as usize]);
                }
                joined.as_slice()
            };
            let halt = lane.outlet.halt;
            let since = Instant::now();
            halt.keep(compressor.compress_into(plain, &own[at..end], frame).map_err(EngineError::Pack))?;
            lane.outlet.activities.did(Activity::Compress, len as u64, since);
            #[cfg(test)]
            if let Some(tamper) = lane.outlet.sealing.tamper {
                tamper(frame);
            }
            lane.append(frame)?;
            at = end;
        }
        Ok(())
    }
}

/// Bytes of the chunks in a frame.
fn plain_len(frame: &Frame) -> u64 {
    frame.chunks.iter().map(|(_, length)| u64::from(*length)).sum()
}
