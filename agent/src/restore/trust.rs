//! Who may restore, and what a receipt is worth, by the log.

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::document::ManifestSlice;
use muster_protocol::ids::{KeyId, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{Role, RoundState, State};
use muster_protocol::message::{RestoreRefusal, cut_note, cut_reason};
use muster_share::store::Store;
use muster_share::verify::Trouble;
use muster_share::verify::chain::{read_manifest, read_receipt};

/// A refusal in words that fit a message.
pub(crate) fn refusal(code: Option<Code>, reason: &str, next: &str) -> RestoreRefusal {
    RestoreRefusal { code, reason: cut_reason(reason), next: cut_note(next) }
}

/// Whether this key may restore now.
pub(crate) fn may_restore(state: &State, key: &KeyId) -> Result<(), RestoreRefusal> {
    let no = |why: &str| {
        let reason = format!("key {} {why}", key.short());
        Err(refusal(Some(Code::Sec01), &reason, "restore with the key of a current operator or admin"))
    };
    match state.role(key) {
        Some(Role::Operator | Role::Admin) => Ok(()),
        Some(
            Role::Viewer | Role::Coordinator | Role::Pruner | Role::Agent { .. } | Role::Enroller { .. },
        ) => no("is no operator's"),
        None if state.members.contains_key(key) => no("was revoked"),
        None => no("is nobody's of this fleet"),
    }
}

/// The committed round and, of its manifest, the slice of this service with this receipt.
///
/// # Errors
/// A refusal that says what does not fit.
pub(crate) async fn slice_of<'a>(
    store: &dyn Store,
    state: &'a State,
    service: &ServiceName,
    round: RoundId,
    receipt: ObjectId,
) -> Result<(&'a RoundState, ManifestSlice), RestoreRefusal> {
    let next = "muster rounds lists what can be restored";
    let known = state.rounds.get(&round).filter(|round| round.is_recoverable());
    let Some(known) = known else {
        let reason = format!("round {} is not committed in the log that the agent reads", round.short());
        return Err(refusal(None, &reason, next));
    };
    let manifest = read_manifest(store, state, known).await.map_err(|trouble| unreadable(&trouble))?;
    let slice = manifest.slices.into_iter().find(|slice| slice.service == *service);
    let Some(slice) = slice.filter(|slice| slice.receipt == receipt) else {
        let reason = format!("round {} names no such receipt of {service}", known.open.number);
        return Err(refusal(Some(Code::Sec01), &reason, next));
    };
    read_receipt(store, state, known, &slice).await.map_err(|trouble| unreadable(&trouble))?;
    Ok((known, slice))
}

/// What of the share could not be had.
pub(crate) fn unreadable(trouble: &Trouble) -> RestoreRefusal {
    match trouble {
        Trouble::Damaged(damage) => {
            let reason = format!("{} {}", damage.object, damage.fault);
            refusal(Some(Code::Verify01), &reason, "muster verify names what is damaged")
        }
        Trouble::Store(error) => {
            refusal(error.alert(), &causes(error), "mend the agent's way to the share and try again")
        }
    }
}
