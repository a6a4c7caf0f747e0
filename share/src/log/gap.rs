//! Gaps: a record that is gone while later ones are there. A create at its free slot would win, and fork the log.

use std::collections::BTreeSet;

use futures::StreamExt;

use super::{Log, LogError, above, segment};
use crate::layout::{ObjectPath, Prefix};
use crate::store::{Listed, StoreError};

impl Log {
    /// Compares the listing of the log with what was read. Records that came in meanwhile are read first. A listing may
    /// lag or be empty: what it lacks is looked for by itself before it is called gone. What lies above a free slot and
    /// is no record is no gap.
    ///
    /// # Errors
    /// [`LogError::Gap`]; or when the share cannot be listed or read, or what was appended cannot be trusted.
    pub async fn refuse_gap(&mut self) -> Result<(), LogError> {
        let mut listed = BTreeSet::new();
        let mut absent: Vec<bool> = vec![true; usize::try_from(self.state.next).unwrap_or_default()];
        let mut listing = self.store.list(&Prefix::Log);
        while let Some(object) = listing.next().await {
            let Listed::Object { path, .. } = object.map_err(LogError::Store)? else { continue };
            let (first, slots) = match path {
                ObjectPath::LogRecord(number) => {
                    if number >= self.state.next {
                        above::list(&mut listed, number);
                    }
                    (number, 1)
                }
                ObjectPath::LogSegment(first) => (first, segment::SLOTS),
                ObjectPath::Format
                | ObjectPath::List(_)
                | ObjectPath::Manifest(_)
                | ObjectPath::Grant(_)
                | ObjectPath::Probe(_)
                | ObjectPath::Copy(_)
                | ObjectPath::Pack { .. }
                | ObjectPath::Slice { .. } => continue,
            };
            let first = usize::try_from(first).unwrap_or(usize::MAX);
            let slots = usize::try_from(slots).unwrap_or(usize::MAX);
            absent.iter_mut().skip(first).take(slots).for_each(|slot| *slot = false);
        }
        drop(listing);
        if !listed.is_empty() {
            self.refresh().await?;
        }
        let record = self.above.record(self.store.as_ref(), &self.state, &listed).await;
        if let Some(newest) = record.map_err(LogError::Store)? {
            return Err(LogError::Gap { missing: self.state.next, newest });
        }
        let missing = (0..).zip(absent).find_map(|(number, absent)| absent.then_some(number));
        match missing {
            Some(missing) if self.slot(missing).await?.is_none() => {
                Err(LogError::Gap { missing, newest: self.state.head.number })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Looks whether the slot behind the next one is taken already: cheap enough to be done before each append.
    ///
    /// # Errors
    /// As [`Log::refuse_gap`].
    pub async fn refuse_next_gap(&mut self) -> Result<(), LogError> {
        match self.store.head(&ObjectPath::LogRecord(self.state.next + 1)).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) if error.is_transient() => Err(LogError::Store(error)),
            // Perhaps two records came in since the log was read, perhaps it is none.
            Ok(_) | Err(_) => self.refuse_gap().await,
        }
    }
}
