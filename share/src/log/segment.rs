//! Segments: a thousand slots in one object, so that readers of a long log fetch few.
//!
//! ```text
//! log/segment-<n> := 1000 × ( length as u32, big endian · the slot's bytes )        slots n … n+999
//! ```
//!
//! A segment is a copy and proves nothing: its records are verified like those of single slots, once by each reader that
//! remembers ([`VerifiedSegments`](super::VerifiedSegments)), and one that is missing or damaged only costs more reads.

use bytes::{Buf, Bytes};
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Effect, MAX_RECORD_LEN, Record, RecordError, State, parse, parse_known};

use super::{Log, LogError};
use crate::layout::ObjectPath;
use crate::store::StoreError;

/// Slots in a segment.
pub(super) const SLOTS: u64 = 1000;
const MAX_SEGMENT_LEN: u64 = SLOTS * (MAX_RECORD_LEN as u64 + 4);

/// How much of a segment is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Every signature.
    Nothing,
    /// These very bytes were verified before: only the signature of the last record is, which names all others by hash.
    Known,
}

/// What came of a segment.
enum Taken {
    /// Every slot is a record.
    Whole,
    /// Some slots are void, as they are on the share.
    WithVoid,
    /// A record contradicts the rules: the share's own slot must say so.
    Stopped,
    /// It is not what the slots are, or not what was verified.
    Lies,
}

impl Log {
    /// Reads whole segments for as long as there are any.
    pub(super) async fn read_segments(&mut self) -> Result<(), LogError> {
        while self.use_segments && self.state.next.is_multiple_of(SLOTS) {
            let first = self.state.next;
            let bytes = match self.store.get(&ObjectPath::LogSegment(first), MAX_SEGMENT_LEN).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_transient() => return Err(LogError::Store(error)),
                Err(_) => return Ok(()),
            };
            let hash = self.verified.is_some().then(|| ObjectId::of(&bytes));
            let Some(slots) = split(bytes) else {
                tracing::warn!(first, "log segment is damaged; reading its slots one by one");
                return Ok(());
            };
            let known = self.verified.as_ref().zip(hash).is_some_and(|(known, hash)| known.has(first, &hash));
            let trust = if known { Trust::Known } else { Trust::Nothing };
            match self.take_segment(&slots, trust).await? {
                Taken::Whole => {
                    if let Some((verified, hash)) = self.verified.as_mut().zip(hash) {
                        verified.add(first, hash);
                    }
                }
                Taken::WithVoid => {}
                Taken::Stopped => return Ok(()),
                Taken::Lies if known => {
                    tracing::warn!(
                        first,
                        "log segment is not what was remembered; verifying the whole log again"
                    );
                    self.verified = None;
                    self.state = State::new(self.state.pin);
                }
                Taken::Lies => {
                    tracing::warn!(first, "log segment lies; reading the log slot by slot");
                    self.doubt_segments();
                }
            }
        }
        Ok(())
    }

    /// Takes the slots of a segment in. The state is of use only if it does not lie.
    async fn take_segment(&mut self, slots: &[Bytes], trust: Trust) -> Result<Taken, LogError> {
        self.from_segments = true;
        let parsed = parse_all(slots, trust).await;
        let mut taken = Taken::Whole;
        for (slot, parsed) in slots.iter().zip(parsed) {
            let number = self.state.next;
            match (self.state.replay_parsed(parsed), trust) {
                (Ok(Effect::Applied | Effect::WithoutEffect(_)), _) => {}
                // What is remembered had no void slot.
                (Ok(Effect::Void(_)) | Err(_), Trust::Known) => return Ok(Taken::Lies),
                // A void slot is believed only of the log itself: a segment could hide records behind it.
                (Ok(Effect::Void(_)), Trust::Nothing) => {
                    self.unsettled = true;
                    if self.slot(number).await?.is_none_or(|own| own != *slot) {
                        return Ok(Taken::Lies);
                    }
                    self.unsettled = false;
                    taken = Taken::WithVoid;
                }
                (Err(_), Trust::Nothing) => {
                    tracing::warn!(number, "log segment stops making sense; reading its slots one by one");
                    return Ok(Taken::Stopped);
                }
            }
        }
        Ok(taken)
    }

    /// Writes the segment before the head if it is complete and missing. For the leader, after an append.
    ///
    /// # Errors
    /// When the slots cannot be read; a segment that cannot be written is only missing.
    pub async fn write_segment(&self) -> Result<(), LogError> {
        let Some(first) = (self.state.next / SLOTS).checked_sub(1).map(|n| n * SLOTS) else { return Ok(()) };
        let path = ObjectPath::LogSegment(first);
        match self.store.head(&path).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        let mut segment = Vec::new();
        for number in first..first + SLOTS {
            // A slot that cannot be found now is no void one: without it there is no segment.
            let Some(slot) = self.slot(number).await? else { return Ok(()) };
            let len = u32::try_from(slot.len()).expect("a slot is at most 64 KiB");
            segment.extend_from_slice(&len.to_be_bytes());
            segment.extend_from_slice(&slot);
        }
        if let Err(error) = self.store.put_new(&path, Bytes::from(segment)).await {
            tracing::warn!(first, %error, "log segment was not written");
        }
        Ok(())
    }
}

/// The slots of a segment, which share its memory.
fn split(mut bytes: Bytes) -> Option<Vec<Bytes>> {
    let mut slots = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
        bytes.advance(4);
        let len = usize::try_from(len).ok().filter(|len| *len <= bytes.len())?;
        slots.push(bytes.split_to(len));
    }
    (slots.len() as u64 == SLOTS).then_some(slots)
}

/// Reads slots on every core: verifying the signatures is nearly all of the work that a long log takes.
async fn parse_all(slots: &[Bytes], trust: Trust) -> Vec<Result<Record, RecordError>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let part_len = slots.len().div_ceil(cores).max(1);
    let last = slots.len().saturating_sub(1);
    let parts: Vec<_> = slots
        .chunks(part_len)
        .enumerate()
        .map(|(part, slots)| {
            let (first, slots) = (part * part_len, slots.to_vec());
            let read = move |(at, slot): (usize, &Bytes)| match trust {
                Trust::Known if first + at != last => parse_known(slot),
                Trust::Known | Trust::Nothing => parse(slot),
            };
            tokio::task::spawn_blocking(move || slots.iter().enumerate().map(read).collect::<Vec<_>>())
        })
        .collect();
    let mut parsed = Vec::with_capacity(slots.len());
    for part in parts {
        parsed.extend(part.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    parsed
}
