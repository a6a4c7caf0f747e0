//! The log as a verifier reads it: on past what is damaged, naming it, where the ordinary reader stops.
//!
//! The state is never more than what an unbroken chain of records proves. Where the chain breaks, nothing behind the
//! break is believed, and [`Ledger::broken`] says that newer rounds may be lost from sight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use muster_protocol::age::Recipient;
use muster_protocol::ids::KeyId;
use muster_protocol::log::{Effect, MAX_RECORD_LEN, Pin, ReplayError, Seen, State, parse};

use super::damage::{Damage, Fault, Trouble, sort};
use crate::layout::{ObjectPath, Prefix};
use crate::log::{Above, Format, FormatError, Log, list_above};
use crate::store::{Listed, Store, StoreError};

/// Slots that are fetched at once.
const AHEAD: usize = 8;

/// Why a share's log tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Neither `FORMAT` nor a log is there.
    #[error("{share} holds neither FORMAT nor a log: it is no Muster share, or the path is wrong")]
    NotAShare {
        /// The share.
        share: String,
    },
    /// A later version wrote the share.
    #[error("{share} cannot be read by this version")]
    Version {
        /// The share.
        share: String,
        /// Which version.
        #[source]
        source: FormatError,
    },
    /// A record that this program does not know, and must.
    #[error("the log cannot be read by this version")]
    UnknownKind(#[source] ReplayError),
    /// The log was founded by another root key than the pinned one.
    #[error("the log was founded by root key {}, not by {}", found.short(), want.short())]
    OtherRoot {
        /// Its root key.
        found: KeyId,
        /// The pinned one.
        want: KeyId,
        /// The recovery keys that the log names, believed by nobody.
        recipients: Vec<Recipient>,
    },
    /// The share fails.
    #[error("the log cannot be read")]
    Store(#[source] StoreError),
}

/// What the log says, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// What the unbroken chain proves. Without a root if not even genesis does.
    pub state: State,
    /// Damaged objects of the log.
    pub damaged: Vec<Damage>,
    /// The log may have had records after [`State::head`]: what the newest round is cannot be told.
    pub broken: bool,
    /// Slots above the head that hold no record: junk, which proves nothing.
    pub above: Vec<u64>,
}

/// Reads the log of a share. `each_slot`: every single record; otherwise segments, where they serve.
///
/// # Errors
/// See [`LedgerError`]; damage is none.
pub async fn read_ledger(store: &Arc<dyn Store>, pin: Pin, each_slot: bool) -> Result<Ledger, LedgerError> {
    let (format, format_damage) = read_format(store).await?;
    let mut ledger = None;
    if !each_slot {
        ledger = through_log(store, pin).await?;
    }
    let mut ledger = match ledger {
        Some(ledger) => ledger,
        None => by_slots(store, pin).await?,
    };
    find_missing(store, &mut ledger).await?;
    if ledger.broken
        && let Some(whole) =
            through_log(store, pin).await?.filter(|whole| whole.state.next > ledger.state.next)
    {
        // A segment has what the slots have lost.
        ledger = Ledger { state: whole.state, damaged: ledger.damaged, broken: false, above: Vec::new() };
        find_missing(store, &mut ledger).await?;
    }
    if ledger.state.root.is_none() && format.is_none() && no_log(store).await? {
        return Err(LedgerError::NotAShare { share: store.describe() });
    }
    if ledger.state.next == 0 && !ledger.broken {
        // It was founded, or is a copy that came to no record: there is nothing that could be whole.
        ledger.damaged.push(Damage::new(ObjectPath::LogRecord(0), Fault::Missing));
        ledger.broken = true;
    }
    if let Some(damage) = format_damage {
        ledger.damaged.insert(0, damage);
    } else if let Some(format) =
        format.filter(|f| ledger.state.root.is_some() && f.fleet != ledger.state.fleet)
    {
        let why = format!(
            "it names fleet {}, but the log founds {}",
            format.fleet.short(),
            ledger.state.fleet.short()
        );
        ledger.damaged.insert(0, Damage::forged(ObjectPath::Format, why));
    }
    Ok(ledger)
}

async fn read_format(store: &Arc<dyn Store>) -> Result<(Option<Format>, Option<Damage>), LedgerError> {
    let path = ObjectPath::Format;
    let bytes = match store.get(&path, Format::MAX_LEN).await {
        Ok(bytes) => bytes,
        Err(error) => match sort(&path, Format::MAX_LEN, error) {
            Trouble::Damaged(damage) => return Ok((None, Some(damage))),
            Trouble::Store(error) => return Err(LedgerError::Store(error)),
        },
    };
    match Format::parse(&bytes) {
        Ok(format) => Ok((Some(format), None)),
        Err(source @ FormatError::Version { .. }) => {
            Err(LedgerError::Version { share: store.describe(), source })
        }
        Err(source @ FormatError::Text) => Ok((None, Some(Damage::content(path, source.to_string())))),
    }
}

/// The state as the ordinary reader finds it, with segments; none where it finds damage.
async fn through_log(store: &Arc<dyn Store>, pin: Pin) -> Result<Option<Ledger>, LedgerError> {
    match Log::open(Arc::clone(store), pin).await {
        Ok(log) => Ok(Some(Ledger {
            state: log.state().clone(),
            damaged: Vec::new(),
            broken: false,
            above: Vec::new(),
        })),
        Err(crate::log::LogError::Store(error)) if error.is_transient() => Err(LedgerError::Store(error)),
        Err(_) => Ok(None),
    }
}

/// Reads slot by slot until one is free or the chain breaks.
async fn by_slots(store: &Arc<dyn Store>, pin: Pin) -> Result<Ledger, LedgerError> {
    let begin =
        |pin| Ledger { state: State::new(pin), damaged: Vec::new(), broken: false, above: Vec::new() };
    let mut ledger = begin(pin);
    other_root(store, pin).await?;
    read_on(store, &mut ledger).await?;
    if let Some(remembered) = pin.head.filter(|_| ledger.broken) {
        // The root may have adopted this history behind the place where the remembered one parts from it.
        let mut adopted = begin(Pin { head: None, ..pin });
        read_on(store, &mut adopted).await?;
        if adopted.state.supersedes(&remembered) {
            return Ok(adopted);
        }
    }
    Ok(ledger)
}

/// Takes in slots from the next one on.
async fn read_on(store: &Arc<dyn Store>, ledger: &mut Ledger) -> Result<(), LedgerError> {
    let mut why = BTreeMap::new();
    let first = ledger.state.next;
    let mut slots = stream::iter(first..).map(|number| slot(store, number)).buffered(AHEAD);
    while let Some(slot) = slots.next().await {
        let Some(bytes) = slot? else { return Ok(()) };
        let number = ledger.state.next;
        let error = match ledger.state.replay(&bytes) {
            Ok(Effect::Void(reason)) => {
                why.insert(number, reason);
                continue;
            }
            Ok(Effect::Applied | Effect::WithoutEffect(_)) => continue,
            Err(error) => error,
        };
        let (slot, reason) = match &error {
            ReplayError::UnknownKind { .. } => return Err(LedgerError::UnknownKind(error)),
            // What the record follows was lost with the void slot that it names.
            ReplayError::Fork { found, head, .. } if found.number > head.number && found.number < number => {
                let reason = why.get(&found.number).cloned().unwrap_or_else(|| error.to_string());
                (
                    found.number,
                    format!("it holds no signed record ({reason}), but record {number} follows it"),
                )
            }
            ReplayError::Fork { .. } | ReplayError::Genesis { .. } | ReplayError::WentBack { .. } => {
                (number, error.to_string())
            }
        };
        ledger.damaged.push(Damage::forged(ObjectPath::LogRecord(slot), reason));
        ledger.broken = true;
        return Ok(());
    }
    Ok(())
}

/// A log that ends is compared with the listing and with the head that was seen before.
async fn find_missing(store: &Arc<dyn Store>, ledger: &mut Ledger) -> Result<(), LedgerError> {
    let mut above = Above::default();
    while !ledger.broken {
        let listed = listed_from(store, ledger.state.next).await?;
        if listed.is_empty() {
            break;
        }
        // Somebody may have appended a moment ago.
        let next = ledger.state.next;
        read_on(store, ledger).await?;
        if ledger.broken || ledger.state.next != next {
            continue;
        }
        let record = above.record(store.as_ref(), &ledger.state, &listed).await;
        if record.map_err(LedgerError::Store)?.is_some() {
            ledger.damaged.push(Damage::new(ObjectPath::LogRecord(next), Fault::Missing));
            ledger.broken = true;
        }
        break;
    }
    ledger.above = above.slots();
    if ledger.broken {
        return Ok(());
    }
    let State { pin, head, void, .. } = &ledger.state;
    for number in void.iter().filter(|number| **number > head.number) {
        let why = "it holds no signed record: torn when it was written, or damaged since".to_owned();
        ledger.damaged.push(Damage::forged(ObjectPath::LogRecord(*number), why));
        ledger.broken = true;
    }
    let superseded = |seen: &Seen| ledger.state.supersedes(seen);
    if let Some(seen) = pin.head.filter(|seen| seen.head.number > head.number && !superseded(seen)) {
        let slot = ObjectPath::LogRecord(seen.head.number);
        if !ledger.damaged.iter().any(|damage| damage.object == slot) {
            ledger.damaged.push(Damage::new(slot, Fault::Missing));
        }
        ledger.broken = true;
    }
    Ok(())
}

/// The lowest slots from `first` on that are listed.
async fn listed_from(store: &Arc<dyn Store>, first: u64) -> Result<BTreeSet<u64>, LedgerError> {
    let mut slots = BTreeSet::new();
    let mut listing = store.list(&Prefix::Log);
    while let Some(listed) = listing.next().await {
        if let Listed::Object { path: ObjectPath::LogRecord(number), .. } =
            listed.map_err(LedgerError::Store)?
            && number >= first
        {
            list_above(&mut slots, number);
        }
    }
    Ok(slots)
}

async fn no_log(store: &Arc<dyn Store>) -> Result<bool, LedgerError> {
    Ok(listed_from(store, 0).await?.is_empty())
}

/// The bytes in a slot, none if it is free. A slot that cannot be read or is too long holds no record.
async fn slot(store: &Arc<dyn Store>, number: u64) -> Result<Option<Bytes>, LedgerError> {
    let path = ObjectPath::LogRecord(number);
    match store.get(&path, MAX_RECORD_LEN as u64).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => match sort(&path, MAX_RECORD_LEN as u64, error) {
            Trouble::Damaged(_) => Ok(Some(Bytes::new())),
            Trouble::Store(error) => Err(LedgerError::Store(error)),
        },
    }
}

/// Tells a share of another fleet from a damaged one.
async fn other_root(store: &Arc<dyn Store>, pin: Pin) -> Result<(), LedgerError> {
    let Some(want) = pin.root else { return Ok(()) };
    let Some(Ok(genesis)) = slot(store, 0).await?.map(|bytes| parse(&bytes)) else { return Ok(()) };
    if genesis.signer == want {
        return Ok(());
    }
    let mut theirs =
        Ledger { state: State::new(Pin::default()), damaged: Vec::new(), broken: false, above: Vec::new() };
    read_on(store, &mut theirs).await?;
    if theirs.state.root.is_none() {
        return Ok(());
    }
    let keys = theirs.state.keysets.values().flat_map(|keyset| &keyset.keys);
    let recipients = keys.map(|key| key.recipient.clone()).collect();
    Err(LedgerError::OtherRoot { found: genesis.signer, want, recipients })
}
