//! Slots that changed nothing: what was written there, by whom, and which alert that calls for.
//!
//! A reader passes them over and goes on; people must hear of them all the same, for most of them are somebody's attempt.

use std::collections::BTreeSet;

use muster_protocol::alert::Code;
use muster_protocol::log::{MAX_RECORD_LEN, Record, State, parse};

use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};

/// Most slots that are told of, the newest: whoever may append could fill the log with them.
pub const MOST_REFUSALS: usize = 20;

/// Kinds that only the epoch's holder appends. Without effect they are what a deposed leader still wanted.
const LEADERS: [&str; 8] = ["epoch", "open", "commit", "verified", "end", "prune", "sweep", "pruned"];

/// A slot that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The slot.
    pub number: u64,
    /// What it is to people.
    pub code: Code,
    /// Why it changed nothing.
    pub why: String,
}

/// The alert that a slot calls for: one that holds a record that has no effect, or one that is void.
pub(super) fn code(bytes: &[u8], void: bool) -> Code {
    match parse(bytes) {
        // Torn by whoever created it, or squatted: nobody signed anything.
        Err(_) => Code::Share07,
        Ok(_) if void => Code::Key03,
        Ok(record) if LEADERS.contains(&record.kind.as_str()) => Code::Coord01,
        Ok(_) => Code::Sec01,
    }
}

/// The newest slots of the log from `first` on that changed nothing, in order; `above`: those above the head.
///
/// # Errors
/// When a slot cannot be read.
pub async fn refusals(
    store: &dyn Store,
    state: &State,
    above: &[u64],
    first: u64,
) -> Result<Vec<Refusal>, StoreError> {
    let without_effect = state.without_effect.iter().map(|(number, why)| (*number, Some(why.clone())));
    let void = state.void.iter().chain(above).map(|number| (*number, None));
    let mut numbers: BTreeSet<_> =
        without_effect.chain(void).filter(|(number, _)| *number >= first).collect();
    while numbers.len() > MOST_REFUSALS {
        numbers.pop_first();
    }
    let mut refusals = Vec::with_capacity(numbers.len());
    for (number, why) in numbers {
        let bytes = match store.get(&ObjectPath::LogRecord(number), MAX_RECORD_LEN as u64).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_transient() => return Err(error),
            // A slot too long for a record, or one that only a segment still holds.
            Err(_) => bytes::Bytes::new(),
        };
        let code = code(&bytes, why.is_none());
        let why =
            why.unwrap_or_else(|| parse(&bytes).map_or_else(|_| UNSIGNED.to_owned(), |r| stray(&r, number)));
        refusals.push(Refusal { number, code, why });
    }
    Ok(refusals)
}

const UNSIGNED: &str = "it holds no signed record: torn when it was written, or squatted";

/// Why a signed record is none in this slot.
fn stray(record: &Record, number: u64) -> String {
    if record.number == number {
        format!("key {} may not append to this log", record.signer.short())
    } else {
        format!("it is record {} again", record.number)
    }
}
