//! From a round to a grant on the share: which packs, their headers, their file keys.

use std::sync::Arc;

use muster_agent::recover::look::LookError;
use muster_agent::recover::{RecoverError, Round, RoundError, Selection, Slice};
use muster_protocol::age::{Identity, Recipient};
use muster_protocol::ids::{ObjectId, RestoreId, ServiceName};
use muster_share::entropy::OsEntropy;
use muster_share::grant::{Grant, GrantError, file_keys};
use muster_share::layout::ObjectPath;
use muster_share::store::put_and_read_back;

use super::plain;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::reading_back::{damage_line, path_text, round_failure};

/// A grant on the share.
pub(super) struct Made {
    pub(super) id: ObjectId,
    pub(super) size: u64,
}

/// The slice of a service.
pub(super) async fn slice(
    round: &Round,
    service: &ServiceName,
    keys: &[Identity],
) -> Result<Arc<Slice>, Failure> {
    match round.slice(service).await {
        Ok(slice) => Ok(Arc::new(slice)),
        Err(LookError::Round(error)) => Err(round_failure(error, keys)),
        Err(LookError::Damaged(damage)) => {
            Err(Failure::new(Exit::Damaged, "VERIFY-01: what the restore needs is damaged")
                .because(damage_line(&damage))
                .next("another round may hold it whole: muster rounds lists them"))
        }
        Err(error @ LookError::Output(_)) => Err(plain(Exit::Failed, &error)),
    }
}

/// Makes the grant for what lies at or below `path`, and puts it on the share.
pub(super) async fn grant(
    fleet: &Fleet,
    slice: &Arc<Slice>,
    path: Option<Vec<u8>>,
    restore: RestoreId,
    recipient: &Recipient,
    keys: &[Identity],
) -> Result<Made, Failure> {
    let store = fleet.log.store().as_ref();
    let packs = match path {
        None => slice.all_packs(),
        Some(path) => {
            let selection = Selection::take(Arc::clone(slice), Some(path.clone())).await;
            let Some(selection) = selection.map_err(|error| words(error, keys))? else {
                return Err(Failure::usage(format!(
                    "the slice has nothing at or below {}",
                    path_text(&path)
                ))
                .next("muster ls ROUND SERVICE --kit PATH shows what it has"));
            };
            selection.packs().await.map_err(|error| words(error, keys))?
        }
    };
    let objects = packs.into_iter().chain([slice.index_object()]).collect();
    let context = slice.sealed_context();
    let granted = file_keys(store, objects, context, keys).await.map_err(refused)?;
    let grant = Grant {
        fleet: context.fleet,
        service: context.service.clone(),
        round: slice.round(),
        restore,
        receipt: slice.receipt_id(),
        keys: granted,
    };
    let sealed = grant.seal(recipient, context.keyset, &mut OsEntropy).map_err(refused)?;
    let (path, size) = (ObjectPath::Grant(sealed.id), sealed.bytes.len() as u64);
    put_and_read_back(store, &path, &sealed.bytes).await?;
    Ok(Made { id: sealed.id, size })
}

fn refused(error: GrantError) -> Failure {
    match error {
        GrantError::Store(error) => error.into(),
        GrantError::Foreign { .. } | GrantError::Twice { .. } | GrantError::Header { .. } => {
            Failure::new(Exit::Damaged, error.to_string())
                .caused_by(&error)
                .because("No key was given out and nothing was restored.")
                .next("muster verify names what is damaged; somebody may have exchanged objects on the share")
        }
        GrantError::TooLong { .. } => {
            Failure::new(Exit::Refused, error.to_string()).next("restore part of it by --path")
        }
        GrantError::Sealed(_) | GrantError::Wire(_) | GrantError::Version { .. } | GrantError::Order => {
            Failure::new(Exit::Failed, error.to_string()).caused_by(&error)
        }
    }
}

fn words(error: RecoverError, keys: &[Identity]) -> Failure {
    match error {
        RecoverError::Round(RoundError::Damaged { damaged, .. }) => {
            let mut failure = Failure::new(Exit::Damaged, "VERIFY-01: what the restore needs is damaged");
            for damage in &damaged {
                failure = failure.because(damage_line(damage));
            }
            failure.next("another round may hold it whole: muster rounds lists them")
        }
        RecoverError::Round(error) => round_failure(error, keys),
        error @ (RecoverError::Target { .. }
        | RecoverError::MakeTarget { .. }
        | RecoverError::Inside { .. }
        | RecoverError::Resume { .. }
        | RecoverError::CutLinks { .. }
        | RecoverError::Path { .. }
        | RecoverError::Stopped
        | RecoverError::Write(_)) => plain(Exit::Failed, &error),
    }
}
