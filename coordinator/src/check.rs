//! The check of a slice: its receipt is read from the share and believed only as far as the share bears it out.
//!
//! Signature, service, attempt, nonce and keyset must be right, and every object that the receipt names must be there
//! with its length (found by one listing), on no list of swept objects and in no quarantine.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::document::{ManifestSlice, ObjectRef, Receipt, SliceTotals};
use muster_protocol::envelope::{Payload, open_as};
use muster_protocol::ids::{KeyId, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{MAX_RECORD_LEN, State};
use muster_protocol::round::{CheckFailure, Failure};
use muster_protocol::units::total;
use muster_share::layout::{ObjectPath, Prefix, SlicePart};
use muster_share::lists::{MAX_OBJECT_LIST_LEN, MAX_PACK_LIST_LEN, PackList, parse_object_list};
use muster_share::prune::swept_since;
use muster_share::store::{Listed, Store, StoreError};

/// What a check needs to know.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) state: Arc<State>,
    pub(crate) round: RoundId,
    /// The attempt's nonce.
    pub(crate) nonce: Nonce,
    pub(crate) open_position: u64,
    pub(crate) service: ServiceName,
    pub(crate) agent: KeyId,
    pub(crate) attempt: u32,
    pub(crate) receipt: ObjectId,
    pub(crate) receipt_size: u64,
    /// Whether the round has a cut.
    pub(crate) cut: bool,
}

fn refused(reason: String) -> CheckFailure {
    CheckFailure::Refused(Failure { code: Code::Key03, reason, permanent: false })
}

fn damaged(reason: String) -> CheckFailure {
    CheckFailure::Refused(Failure { code: Code::Share07, reason, permanent: false })
}

fn unread(error: &StoreError) -> CheckFailure {
    match error {
        StoreError::NotFound { .. } | StoreError::TooLong { .. } | StoreError::Damaged { .. } => {
            damaged(causes(error))
        }
        StoreError::AlreadyExists { .. }
        | StoreError::Full { .. }
        | StoreError::Denied { .. }
        | StoreError::WriteRefused { .. }
        | StoreError::Unreachable { .. }
        | StoreError::Strange { .. }
        | StoreError::InvalidPath { .. }
        | StoreError::Locked { .. }
        | StoreError::NotKept { .. }
        | StoreError::TimedOut { .. }
        | StoreError::Io { .. } => CheckFailure::Unavailable { reason: causes(error) },
    }
}

/// An object, read whole and hashed.
pub(crate) async fn read_object(
    store: &dyn Store,
    path: &ObjectPath,
    id: &ObjectId,
    size: u64,
) -> Result<bytes::Bytes, CheckFailure> {
    let bytes = store.get(path, size).await.map_err(|e| unread(&e))?;
    if bytes.len() as u64 != size {
        return Err(damaged(format!("{path} has {} bytes, want {size}", bytes.len())));
    }
    if ObjectId::of(&bytes) != *id {
        return Err(damaged(format!("{path} does not have the hash that it is named by")));
    }
    Ok(bytes)
}

/// Where a slice's object lies.
pub(crate) fn slice_path(service: &ServiceName, object: &ObjectRef, part: SlicePart) -> ObjectPath {
    ObjectPath::Slice { service: service.clone(), round: object.round, id: object.id, part }
}

/// Every pack that `receipt` names, by id, with its size; the second set are those of lists that were not written by a round
/// that is `proven`.
pub(crate) async fn packs_of(
    store: &dyn Store,
    receipt: &Receipt,
    proven: impl Fn(&RoundId) -> bool,
) -> Result<(BTreeMap<ObjectId, u64>, BTreeMap<ObjectId, u64>), CheckFailure> {
    let (mut all, mut unproven) = (BTreeMap::new(), BTreeMap::new());
    let mut numbers = HashSet::new();
    for object in &receipt.packs {
        if object.size > MAX_PACK_LIST_LEN as u64 {
            return Err(damaged(format!("pack list {} is too long", object.id)));
        }
        let path = slice_path(&receipt.service, object, SlicePart::Packs);
        let bytes = read_object(store, &path, &object.id, object.size).await?;
        let list = PackList::decode(&bytes).map_err(|e| damaged(format!("{path}: {}", causes(&e))))?;
        for row in list.packs {
            if !numbers.insert(row.number) {
                return Err(damaged(format!("pack number {} is listed twice", row.number)));
            }
            all.insert(row.id, row.size);
            if !proven(&object.round) {
                unproven.insert(row.id, row.size);
            }
        }
    }
    Ok((all, unproven))
}

/// Objects that no commit may name any more: those of every sweep, and of prunes that came before the round.
pub(crate) async fn swept_objects(
    store: &dyn Store,
    state: &State,
    open_position: u64,
) -> Result<HashSet<ObjectPath>, CheckFailure> {
    let sweeps = state.sweeps.values().map(|(sweep, _)| sweep.list);
    let prunes = state.prunes.range(..open_position).map(|(_, prune)| prune.list);
    let mut objects = HashSet::new();
    for list in sweeps.chain(prunes) {
        let path = ObjectPath::List(list);
        let bytes = store.get(&path, MAX_OBJECT_LIST_LEN as u64).await.map_err(|e| unread(&e))?;
        if ObjectId::of(&bytes) != list {
            return Err(damaged(format!("{path} does not have the hash that it is named by")));
        }
        let parsed = parse_object_list(&bytes).map_err(|e| damaged(format!("{path}: {}", causes(&e))))?;
        objects.extend(parsed);
    }
    Ok(objects)
}

/// Checks one slice.
pub(crate) async fn check(store: Arc<dyn Store>, case: Case) -> Result<ManifestSlice, CheckFailure> {
    let store = store.as_ref();
    let Case { state, round, service, .. } = &case;
    let own = ObjectRef { round: *round, id: case.receipt, size: case.receipt_size };
    if own.size > Receipt::MAX_LEN as u64 {
        return Err(refused(format!("the receipt has {} bytes", own.size)));
    }
    let path = slice_path(service, &own, SlicePart::Receipt);
    let bytes = read_object(store, &path, &own.id, own.size).await?;
    let (key, receipt) =
        open_as::<Receipt>(&bytes, &state.fleet).map_err(|e| refused(format!("{path}: {}", causes(&e))))?;
    if key != case.agent {
        return Err(refused(format!(
            "the receipt is signed by key {}, not by the service's agent",
            key.short()
        )));
    }
    if receipt.service != *service || receipt.round != *round || receipt.attempt != case.attempt {
        return Err(refused("the receipt is of another service, round or attempt".into()));
    }
    if receipt.nonce != case.nonce {
        return Err(refused("the receipt was not made for this attempt: its nonce is another".into()));
    }
    let keyset = state.keyset_at(case.open_position).map(|(number, _)| number);
    if keyset != Some(receipt.keyset) {
        return Err(refused(format!(
            "the slice is sealed to keyset {}, which is not the round's",
            receipt.keyset
        )));
    }
    let (packs, _) = packs_of(store, &receipt, |_| true).await?;
    if let Some(why) = impossible(&receipt, total(packs.values().copied()), case.cut) {
        return Err(refused(format!("the receipt cannot be true: {why}")));
    }
    seen_head(store, state, &receipt).await?;
    let needed = needed(&receipt, packs);
    let swept = swept_objects(store, state, case.open_position).await?;
    if let Some(gone) = needed.keys().find(|path| swept.contains(path)) {
        return Err(damaged(format!("{gone} is being deleted; it must be uploaded again")));
    }
    let lists = receipt.packs.iter().map(|list| list.id);
    let mut named = lists.chain(needed.keys().filter_map(|path| path.id().copied()));
    if let Some(bad) = named.find(|id| state.is_quarantined(service, id)) {
        return Err(damaged(format!("{bad} is in quarantine; what it held must be uploaded again")));
    }
    present(store, service, needed).await?;
    Ok(ManifestSlice {
        service: service.clone(),
        agent: key,
        attempts: case.attempt,
        receipt: own.id,
        receipt_size: own.size,
        status: receipt.status,
        totals: receipt.totals,
        cut: receipt.cut,
        timing: None,
        tries: Vec::new(),
    })
}

/// What a receipt says that no capture comes to, when its lists name packs of `listed` bytes.
fn impossible(receipt: &Receipt, listed: u64, cut: bool) -> Option<&'static str> {
    let SliceTotals { source_bytes, stored_bytes, added_bytes, entries, gaps } = receipt.totals;
    if [source_bytes, stored_bytes, added_bytes, entries, gaps].iter().any(|total| *total > SliceTotals::MOST)
    {
        Some("a total is beyond every bound")
    } else if stored_bytes > listed {
        Some("it stores more than its pack lists name")
    } else if gaps > entries {
        Some("it has more gaps than entries")
    } else if receipt.new_packs as usize > receipt.packs.len() {
        Some("it wrote more pack lists than it names")
    } else if receipt.cut.is_some() && !cut {
        Some("it is of a cut, and the round has none")
    } else {
        None
    }
}

/// The agent may have read further in the log than we have; what it says it has seen must be there then.
async fn seen_head(store: &dyn Store, state: &State, receipt: &Receipt) -> Result<(), CheckFailure> {
    let head = receipt.head;
    if head.number <= state.head.number {
        return Ok(());
    }
    match store.get(&ObjectPath::LogRecord(head.number), MAX_RECORD_LEN as u64).await {
        Ok(bytes) if ObjectId::of(&bytes) == head.hash => Ok(()),
        Err(error) if error.is_transient() => Err(unread(&error)),
        Ok(_) | Err(_) => Err(refused(format!("the receipt cannot be true: log record {head} is not there"))),
    }
}

/// Every object that a slice needs beside its receipt and pack lists, with its length.
fn needed(receipt: &Receipt, packs: BTreeMap<ObjectId, u64>) -> BTreeMap<ObjectPath, u64> {
    let service = &receipt.service;
    let mut needed: BTreeMap<ObjectPath, u64> = packs
        .into_iter()
        .map(|(id, size)| (ObjectPath::Pack { service: service.clone(), id }, size))
        .collect();
    needed.insert(slice_path(service, &receipt.index, SlicePart::Index), receipt.index.size);
    for chunks in &receipt.chunks {
        needed.insert(slice_path(service, chunks, SlicePart::Chunks), chunks.size);
    }
    needed
}

/// Slices of a round that cannot be committed, because an object of theirs was swept or put into quarantine behind log number
/// `since`, after they were checked. Reads nothing where there was neither.
///
/// # Errors
/// When the share does not answer; then it is not known.
pub(crate) async fn lost_since(
    store: &dyn Store,
    state: &State,
    since: u64,
    round: RoundId,
    slices: &[ManifestSlice],
) -> Result<Vec<(ServiceName, Failure)>, String> {
    let swept = swept_since(store, state, since).await.map_err(|error| causes(&error))?;
    let mut lost = Vec::new();
    let sick: BTreeSet<&ServiceName> = state.quarantined_since(since).collect();
    for slice in slices {
        if swept.is_empty() && !sick.contains(&slice.service) {
            continue;
        }
        let own = ObjectRef { round, id: slice.receipt, size: slice.receipt_size };
        match whole_beside(store, state, &own, &slice.service, &swept).await {
            Ok(()) => {}
            Err(CheckFailure::Unavailable { reason }) => return Err(reason),
            Err(CheckFailure::Refused(failure)) => {
                lost.push((slice.service.clone(), Failure { permanent: true, ..failure }));
            }
        }
    }
    Ok(lost)
}

async fn whole_beside(
    store: &dyn Store,
    state: &State,
    own: &ObjectRef,
    service: &ServiceName,
    swept: &BTreeSet<ObjectPath>,
) -> Result<(), CheckFailure> {
    let path = slice_path(service, own, SlicePart::Receipt);
    let bytes = read_object(store, &path, &own.id, own.size).await?;
    let opened = open_as::<Receipt>(&bytes, &state.fleet);
    let (_, receipt) = opened.map_err(|e| refused(format!("{path}: {}", causes(&e))))?;
    let lists = receipt.packs.iter().map(|list| slice_path(service, list, SlicePart::Packs));
    let (packs, _) = packs_of(store, &receipt, |_| true).await?;
    let needed = needed(&receipt, packs);
    for path in lists.chain([path]).chain(needed.into_keys()) {
        if swept.contains(&path) {
            return Err(damaged(format!("{path} was swept after the slice was checked")));
        }
        if path.id().is_some_and(|id| state.is_quarantined(service, id)) {
            return Err(damaged(format!("{path} was put into quarantine after the slice was checked")));
        }
    }
    Ok(())
}

/// Every needed object is on the share with its length. The packs are looked up in one listing.
async fn present(
    store: &dyn Store,
    service: &ServiceName,
    mut needed: BTreeMap<ObjectPath, u64>,
) -> Result<(), CheckFailure> {
    let mut listing = store.list(&Prefix::Packs(service.clone()));
    while let Some(listed) = listing.next().await {
        match listed.map_err(|e| unread(&e))? {
            Listed::Object { path, size } => {
                if let Some(want) = needed.remove(&path).filter(|want| *want != size) {
                    return Err(damaged(format!("{path} has {size} bytes, want {want}")));
                }
            }
            Listed::Foreign { .. } => {}
        }
    }
    for (path, want) in needed {
        let meta = store.head(&path).await.map_err(|e| unread(&e))?;
        if meta.size != want {
            return Err(damaged(format!("{path} has {} bytes, want {want}", meta.size)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{impossible, seen_head};
    use muster_protocol::config::ShareConfig;
    use muster_protocol::document::{ObjectRef, Receipt, SliceStatus, SliceTotals};
    use muster_protocol::ids::{Nonce, ObjectId, RoundId};
    use muster_protocol::log::{GENESIS_HEAD, Head, Pin, State};
    use muster_share::store;

    fn honest() -> Receipt {
        let round = RoundId::from_bytes([1; 16]);
        let object = ObjectRef { round, id: ObjectId::of(b"x"), size: 1 };
        Receipt {
            service: "dns".parse().expect("a name"),
            round,
            attempt: 1,
            nonce: Nonce::from_bytes([2; 16]),
            keyset: 1,
            head: GENESIS_HEAD,
            index: object,
            chunks: Vec::new(),
            packs: vec![object],
            new_packs: 1,
            status: SliceStatus::Whole,
            totals: SliceTotals { source_bytes: 9, stored_bytes: 7, added_bytes: 8, entries: 2, gaps: 1 },
            previous: None,
            cut: None,
        }
    }

    #[test]
    fn a_receipt_that_cannot_be_true_is_none() {
        assert_eq!(impossible(&honest(), 7, false), None);
        let in_a_cut = Receipt { cut: Some(Nonce::from_bytes([3; 16])), ..honest() };
        assert_eq!(impossible(&in_a_cut, 7, true), None);
        assert!(impossible(&in_a_cut, 7, false).is_some());
        assert!(impossible(&honest(), 6, false).is_some(), "more than is listed");
        assert!(impossible(&Receipt { new_packs: 2, ..honest() }, 7, false).is_some());
        for change in [
            |totals: &mut SliceTotals| totals.source_bytes = SliceTotals::MOST + 1,
            |totals: &mut SliceTotals| totals.added_bytes = u64::MAX,
            |totals: &mut SliceTotals| totals.entries = u64::MAX,
            |totals: &mut SliceTotals| totals.gaps = 3,
        ] {
            let mut receipt = honest();
            change(&mut receipt.totals);
            assert!(impossible(&receipt, 7, false).is_some(), "{:?}", receipt.totals);
        }
    }

    #[tokio::test]
    async fn a_head_that_the_log_does_not_have_was_not_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store::create(&ShareConfig::at(folder.path().join("share").display().to_string()))
            .await
            .expect("a share");
        let state = State::new(Pin::default());
        let seen =
            |number, record: &[u8]| Receipt { head: Head { number, hash: ObjectId::of(record) }, ..honest() };
        seen_head(store.as_ref(), &state, &honest()).await.expect("we have read as far");
        let slot = muster_share::layout::ObjectPath::LogRecord(1);
        store.put_new(&slot, bytes::Bytes::from_static(b"record")).await.expect("written");
        seen_head(store.as_ref(), &state, &seen(1, b"record")).await.expect("the agent has read further");
        for lie in [seen(1, b"another"), seen(2, b"record"), seen(u64::MAX, b"record")] {
            assert!(seen_head(store.as_ref(), &state, &lie).await.is_err(), "{:?}", lie.head);
        }
    }
}
