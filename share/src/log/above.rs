//! Slots above the head: records that prove a gap, or junk that proves nothing.
//!
//! Anybody who may write to the share can create any slot. One that lies above a free slot proves that records are gone
//! only if a key signed it for that very slot which may append by the state so far. All others are void before their
//! time: they are told, and passed over when the log gets there.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::alert::Code;
use muster_protocol::ids::KeyId;
use muster_protocol::log::{State, parse};

use super::slot;
use crate::store::{Store, StoreError};

/// Most slots that are opened, the lowest. Where records are gone, the next that are left are the lowest above: junk can
/// only be created in slots that are free.
const MOST: usize = 64;

/// Slots above the head by what is in them, so that each is opened once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Above {
    /// Who signed the record that names its slot; nobody where there is none.
    signers: BTreeMap<u64, Option<KeyId>>,
}

/// Takes a slot into the lowest that were listed.
pub(crate) fn list(listed: &mut BTreeSet<u64>, number: u64) {
    listed.insert(number);
    if listed.len() > MOST {
        listed.pop_last();
    }
}

impl Above {
    /// The lowest of the listed slots above the next one that holds a record which may be appended.
    ///
    /// # Errors
    /// When the share fails.
    pub(crate) async fn record(
        &mut self,
        store: &dyn Store,
        state: &State,
        listed: &BTreeSet<u64>,
    ) -> Result<Option<u64>, StoreError> {
        self.signers.retain(|number, _| *number > state.next && listed.contains(number));
        for &number in listed.iter().filter(|number| **number > state.next) {
            let known = self.signers.get(&number).copied();
            let signer = match known {
                Some(signer) => signer,
                None => match slot(store, number).await {
                    Ok(Some(bytes)) => parse(&bytes)
                        .ok()
                        .filter(|record| record.number == number && record.fleet == state.fleet)
                        .map(|record| record.signer),
                    // The listing lags behind.
                    Ok(None) => continue,
                    Err(error) if error.is_transient() => return Err(error),
                    Err(_) => None,
                },
            };
            self.signers.insert(number, signer);
            if signer.is_some_and(|key| state.may_append(&key)) {
                return Ok(Some(number));
            }
            if known.is_none() {
                let head = state.head.number;
                tracing::warn!(
                    number,
                    head,
                    "{}: a slot above the log's head holds no record",
                    Code::Share07
                );
            }
        }
        Ok(None)
    }

    /// The slots that were found to hold no record, when none is missing.
    pub(crate) fn slots(&self) -> Vec<u64> {
        self.signers.keys().copied().collect()
    }
}
