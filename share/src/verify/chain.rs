//! From the log to a slice, one signature and one hash at a time: commit → manifest → receipt → lists → index → packs.
//!
//! Everything here has been compared with what named it before it is handed out, so whoever follows this chain decrypts
//! nothing that the root has not vouched for.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::causes::causes;
use muster_protocol::document::{Manifest, ManifestSlice, ObjectRef, Receipt};
use muster_protocol::envelope::{Payload, open_as};
use muster_protocol::ids::{KeyId, ObjectId, ServiceName};
use muster_protocol::log::{Keyset, Member, Role, RoundPhase, RoundState, State};

use super::damage::{Damage, Trouble, read};
use crate::grant::MAX_GRANT_SEALED;
use crate::keys::Keyring;
use crate::layout::{ObjectPath, SlicePart};
use crate::lists::{IndexRoot, ListedPack, MAX_CHUNK_INDEX_LEN, MAX_INDEX_LEN, MAX_PACK_LIST_LEN, PackList};
use crate::sealed::PackContext;
use crate::store::{Store, StoreError};

/// Longest pack that is read, in bytes: the most that one may hold plain, and room for what sealing adds.
pub const MAX_PACK_LEN: u64 = 320 * 1024 * 1024;

/// What sealing and padding add to an index at most, in bytes.
const SEAL_MOST: u64 = 4 * 1024 * 1024;

/// The member that a key was at a log position.
#[must_use]
pub fn member_at<'a>(state: &'a State, key: &KeyId, position: u64) -> Option<&'a Member> {
    let member = state.members.get(key)?;
    let counts = member.since <= position && member.revoked.is_none_or(|revoked| position < revoked);
    counts.then_some(&member.member)
}

/// Where a slice's object lies.
#[must_use]
pub fn slice_path(service: &ServiceName, object: &ObjectRef, part: SlicePart) -> ObjectPath {
    ObjectPath::Slice { service: service.clone(), round: object.round, id: object.id, part }
}

/// The path of an object, and the length that names it.
#[must_use]
pub fn most_bytes(path: &ObjectPath) -> u64 {
    match path {
        ObjectPath::Slice { part: SlicePart::Receipt, .. } => Receipt::MAX_LEN as u64,
        ObjectPath::Slice { part: SlicePart::Packs, .. } => MAX_PACK_LIST_LEN as u64,
        ObjectPath::Slice { part: SlicePart::Index, .. } => MAX_INDEX_LEN as u64 + SEAL_MOST,
        ObjectPath::Slice { part: SlicePart::Chunks, .. } => MAX_CHUNK_INDEX_LEN as u64 + SEAL_MOST,
        ObjectPath::Manifest(_) => Manifest::MAX_LEN as u64,
        ObjectPath::Grant(_) => MAX_GRANT_SEALED,
        ObjectPath::Format
        | ObjectPath::LogRecord(_)
        | ObjectPath::LogSegment(_)
        | ObjectPath::List(_)
        | ObjectPath::Probe(_)
        | ObjectPath::Copy(_)
        | ObjectPath::Pack { .. } => MAX_PACK_LEN,
    }
}

/// The manifest of a committed round.
///
/// # Errors
/// When it is damaged, was not signed by a coordinator that counted at the commit, or is of another round.
///
/// # Panics
/// When the round is not committed.
pub async fn read_manifest(
    store: &dyn Store,
    state: &State,
    round: &RoundState,
) -> Result<Manifest, Trouble> {
    let RoundPhase::Committed { commit, position, .. } = &round.phase else {
        panic!("round {} is not committed", round.open.number)
    };
    let path = ObjectPath::Manifest(commit.manifest);
    let most = most_bytes(&path);
    let bytes = read(store, &path, &commit.manifest, commit.manifest_size, most).await?;
    let forged = |why: String| Trouble::from(Damage::forged(path.clone(), why));
    let (key, manifest) = open_as::<Manifest>(&bytes, &state.fleet).map_err(|e| forged(causes(&e)))?;
    if !matches!(member_at(state, &key, *position).map(|member| &member.role), Some(Role::Coordinator)) {
        return Err(forged(format!("key {} was no coordinator's when the round was committed", key.short())));
    }
    if manifest.round != commit.round
        || manifest.number != round.open.number
        || manifest.outcome != commit.outcome
    {
        return Err(forged("it is the manifest of another round".into()));
    }
    let keyset_known = state.keysets.range(..*position).any(|(number, _)| *number == manifest.keyset);
    if !keyset_known || !manifest.slices.is_sorted_by(|a, b| a.service < b.service) {
        return Err(forged("it names an unknown keyset, or a service twice".into()));
    }
    Ok(manifest)
}

/// How a manifest names a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptName {
    /// The service.
    pub service: ServiceName,
    /// The agent's key.
    pub agent: KeyId,
    /// The receipt's hash.
    pub id: ObjectId,
    /// Its length in bytes.
    pub size: u64,
}

impl From<&ManifestSlice> for ReceiptName {
    fn from(slice: &ManifestSlice) -> Self {
        let ManifestSlice { service, agent, receipt, receipt_size, .. } = slice;
        Self { service: service.clone(), agent: *agent, id: *receipt, size: *receipt_size }
    }
}

/// The receipt of a slice that a manifest names.
///
/// # Errors
/// When it is damaged, was not signed by the agent that the service had at the commit, or is of another attempt.
pub async fn read_receipt(
    store: &dyn Store,
    state: &State,
    round: &RoundState,
    slice: &ManifestSlice,
) -> Result<Receipt, Trouble> {
    read_named_receipt(store, state, round, &ReceiptName::from(slice)).await
}

/// As [`read_receipt`], by the receipt's name alone.
///
/// # Errors
/// As [`read_receipt`].
pub async fn read_named_receipt(
    store: &dyn Store,
    state: &State,
    round: &RoundState,
    slice: &ReceiptName,
) -> Result<Receipt, Trouble> {
    let id = round.open.round;
    let own = ObjectRef { round: id, id: slice.id, size: slice.size };
    let path = slice_path(&slice.service, &own, SlicePart::Receipt);
    let bytes = read(store, &path, &own.id, own.size, most_bytes(&path)).await?;
    let forged = |why: String| Trouble::from(Damage::forged(path.clone(), why));
    let (key, receipt) = open_as::<Receipt>(&bytes, &state.fleet).map_err(|e| forged(causes(&e)))?;
    let position = match &round.phase {
        RoundPhase::Committed { position, .. } => *position,
        RoundPhase::Open | RoundPhase::Ended(_) => return Err(forged("its round is not committed".into())),
    };
    let service = member_at(state, &key, position).and_then(|member| member.role.service());
    if key != slice.agent || service != Some(&slice.service) {
        let why = format!(
            "key {} was not the agent of {} when the round was committed",
            key.short(),
            slice.service
        );
        return Err(forged(why));
    }
    let nonce = round.open.nonce.for_attempt(&slice.service, receipt.attempt);
    if receipt.service != slice.service || receipt.round != id || receipt.nonce != nonce {
        return Err(forged("it is of another service, round or attempt".into()));
    }
    if !state.keysets.contains_key(&receipt.keyset) {
        return Err(forged(format!("it names keyset {}, which the log does not have", receipt.keyset)));
    }
    Ok(receipt)
}

/// Every pack list of a receipt, in its order; each whole or damaged by itself.
///
/// # Errors
/// When the share fails.
pub async fn read_pack_lists(
    store: &dyn Store,
    receipt: &Receipt,
) -> Result<Vec<Result<PackList, Damage>>, StoreError> {
    let mut lists = Vec::with_capacity(receipt.packs.len());
    for object in &receipt.packs {
        lists.push(match read_pack_list(store, &receipt.service, object).await {
            Ok(list) => Ok(list),
            Err(Trouble::Damaged(damage)) => Err(damage),
            Err(Trouble::Store(error)) => return Err(error),
        });
    }
    Ok(lists)
}

/// One pack list of a receipt.
///
/// # Errors
/// When it is damaged, or the share fails.
pub async fn read_pack_list(
    store: &dyn Store,
    service: &ServiceName,
    object: &ObjectRef,
) -> Result<PackList, Trouble> {
    let path = slice_path(service, object, SlicePart::Packs);
    let bytes = read(store, &path, &object.id, object.size, most_bytes(&path)).await?;
    PackList::decode(&bytes).map_err(|e| Damage::content(path, causes(&e)).into())
}

/// The packs of these lists by number. A number that two lists give to different packs leads to neither.
#[must_use]
pub fn packs_by_number<'a>(lists: impl IntoIterator<Item = &'a PackList>) -> BTreeMap<u64, ListedPack> {
    let mut packs: BTreeMap<u64, Option<ListedPack>> = BTreeMap::new();
    for pack in lists.into_iter().flat_map(|list| &list.packs) {
        let known = packs.entry(pack.number).or_insert(Some(*pack));
        if *known != Some(*pack) {
            *known = None;
        }
    }
    packs.into_iter().filter_map(|(number, pack)| pack.map(|pack| (number, pack))).collect()
}

/// The slice index that a receipt names.
///
/// # Errors
/// When it is damaged, does not open with these keys, or belongs to another slice.
pub async fn read_index(
    store: &dyn Store,
    state: &State,
    receipt: &Receipt,
    keys: &Keyring,
) -> Result<IndexRoot, Trouble> {
    let path = slice_path(&receipt.service, &receipt.index, SlicePart::Index);
    let index = &receipt.index;
    let bytes = read(store, &path, &index.id, index.size, most_bytes(&path)).await?;
    let (context, root) = IndexRoot::open(&bytes, None, keys.unlock(&path))
        .map_err(|e| Damage::content(path.clone(), causes(&e)))?;
    if context != context_of(state, receipt) || root.service != receipt.service || root.round != receipt.round
    {
        return Err(Damage::forged(path, "it is sealed for another slice").into());
    }
    Ok(root)
}

/// What everything that this receipt's agent sealed says of itself.
#[must_use]
pub fn context_of(state: &State, receipt: &Receipt) -> PackContext {
    PackContext { fleet: state.fleet, service: receipt.service.clone(), keyset: receipt.keyset }
}

/// Keys that do not open a round, and what they do open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongKey {
    /// The round's number.
    pub number: u64,
    /// The recovery keys that open it.
    pub wanted: Vec<Recipient>,
    /// Numbers of the rounds that these keys open.
    pub opened: BTreeSet<u64>,
    /// Whether they open the rounds to come.
    pub next: bool,
}

impl WrongKey {
    /// What is wrong, if none of `keys` is one of those that the slices of round `number` are sealed to.
    #[must_use]
    pub fn of(state: &State, number: u64, keyset: u64, keys: &[Identity]) -> Option<Self> {
        let have: Vec<_> = keys.iter().map(Identity::recipient).collect();
        let opens = |keyset: &Keyset| keyset.keys.iter().any(|key| have.contains(&key.recipient));
        let keyset = state.keysets.get(&keyset)?;
        if opens(keyset) {
            return None;
        }
        let rounds = state.rounds.values().filter(|round| round.is_recoverable());
        let opened = rounds.filter(|round| state.keyset_at(round.position).is_some_and(|(_, k)| opens(k)));
        Some(Self {
            next: state.keyset().is_some_and(|(_, keyset)| opens(keyset)),
            number,
            wanted: keyset.keys.iter().map(|key| key.recipient.clone()).collect(),
            opened: opened.map(|round| round.open.number).collect(),
        })
    }
}

/// A recovery key on one line, as screens show it: `age1q…7f`, and in full where it is asked for.
#[must_use]
pub fn short_recipient(recipient: &Recipient) -> String {
    let text = recipient.to_string();
    format!("{}…{}", &text[..9], &text[text.len() - 6..])
}
