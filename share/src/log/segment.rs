//! Segments: a thousand slots in one object, so that readers of a long log fetch few.
//!
//! ```text
//! log/segment-<n> := 1000 × ( length as u32, big endian · the slot's bytes )        slots n … n+999
//! ```
//!
//! A segment is a copy and proves nothing: its records are verified like those of single slots, and one that is
//! missing or damaged only costs more reads.

use bytes::{Buf, Bytes};
use muster_protocol::log::{Effect, MAX_RECORD_LEN, Record, RecordError, parse};

use super::{Log, LogError};
use crate::layout::ObjectPath;
use crate::store::StoreError;

/// Slots in a segment.
pub(super) const SLOTS: u64 = 1000;
const MAX_SEGMENT_LEN: u64 = SLOTS * (MAX_RECORD_LEN as u64 + 4);

impl Log {
    /// Reads whole segments for as long as there are any.
    pub(super) async fn read_segments(&mut self) -> Result<(), LogError> {
        while self.state.next.is_multiple_of(SLOTS) {
            let first = self.state.next;
            let bytes = match self.store.get(&ObjectPath::LogSegment(first), MAX_SEGMENT_LEN).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_transient() => return Err(LogError::Store(error)),
                Err(_) => return Ok(()),
            };
            let Some(slots) = split(bytes) else {
                tracing::warn!(first, "log segment is damaged; reading its slots one by one");
                return Ok(());
            };
            let parsed = parse_all(&slots).await;
            let mut state = self.state.clone();
            for (slot, parsed) in slots.into_iter().zip(parsed) {
                let number = state.next;
                match state.replay_parsed(parsed) {
                    Ok(Effect::Applied | Effect::WithoutEffect(_)) => {}
                    // A void slot is believed only of the log itself: a segment could hide records behind it.
                    Ok(Effect::Void(_)) if self.slot(number).await?.is_some_and(|own| own == slot) => {}
                    Ok(Effect::Void(_)) | Err(_) => {
                        tracing::warn!(first, number, "log segment lies; reading its slots one by one");
                        return Ok(());
                    }
                }
            }
            self.state = state;
        }
        Ok(())
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
async fn parse_all(slots: &[Bytes]) -> Vec<Result<Record, RecordError>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<_> = slots
        .chunks(slots.len().div_ceil(cores).max(1))
        .map(|part| {
            let part = part.to_vec();
            tokio::task::spawn_blocking(move || part.iter().map(|slot| parse(slot)).collect::<Vec<_>>())
        })
        .collect();
    let mut parsed = Vec::with_capacity(slots.len());
    for part in parts {
        parsed.extend(part.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    parsed
}
