//! Gaps: a record that is gone while later ones are there. A create at its free slot would win, and fork the log.

use futures::StreamExt;

use super::{Log, LogError, segment};
use crate::layout::{ObjectPath, Prefix};
use crate::store::{Listed, StoreError};

impl Log {
    /// Compares the listing of the log with what was read. Records that came in meanwhile are read first. A listing may
    /// lag or be empty: what it lacks is looked for by itself before it is called gone.
    ///
    /// # Errors
    /// [`LogError::Gap`]; or when the share cannot be listed or read, or what was appended cannot be trusted.
    pub async fn refuse_gap(&mut self) -> Result<(), LogError> {
        let mut newest = None;
        let mut absent: Vec<bool> = vec![true; usize::try_from(self.state.next).unwrap_or_default()];
        let mut listing = self.store.list(&Prefix::Log);
        while let Some(listed) = listing.next().await {
            let Listed::Object { path, .. } = listed.map_err(LogError::Store)? else { continue };
            let (first, slots) = match path {
                ObjectPath::LogRecord(number) => {
                    newest = newest.max(Some(number));
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
        if let Some(newest) = newest.filter(|newest| *newest >= self.state.next) {
            self.refresh().await?;
            if newest >= self.state.next {
                return Err(LogError::Gap { missing: self.state.next, newest });
            }
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
            // Perhaps two records came in since the log was read.
            Ok(_) => self.refuse_gap().await,
            Err(error) => Err(LogError::Store(error)),
        }
    }
}
