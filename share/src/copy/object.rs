//! One object from share to share: read and compared with its name, written, read back.

use std::time::Duration;

use bytes::Bytes;

use super::error::CopyError;
use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};
use crate::verify::chain::most_bytes;
use crate::verify::{Damage, Trouble, fetch, read_object};

/// What became of an object.
#[derive(Debug)]
pub(super) enum Brought {
    /// It is on the copy.
    Copied {
        /// Whether a torn one was there before.
        mended: bool,
    },
    /// The first share does not have it whole: it is not copied.
    Damaged(Damage),
}

/// Copies one object of `size` bytes.
///
/// # Errors
/// When either share fails, or the copy does not give it back.
pub(super) async fn bring(
    source: &dyn Store,
    target: &dyn Store,
    path: &ObjectPath,
    size: u64,
) -> Result<Brought, CopyError> {
    let read = match path.id() {
        Some(id) => read_object(source, path, id, size).await,
        // The name of a segment is no hash; whoever reads one compares its records with the chain.
        None => fetch(source, path, size, most_bytes(path)).await,
    };
    match read {
        Ok(bytes) => Ok(Brought::Copied { mended: place(target, path, bytes).await? }),
        Err(Trouble::Damaged(damage)) => Ok(Brought::Damaged(damage)),
        Err(Trouble::Store(error)) => Err(CopyError::Source(error)),
    }
}

/// Writes these bytes on the copy, and reads them back; whether others were there before. Those were torn by a crash: the
/// caller knows that the name can only be that of `bytes`.
///
/// # Errors
/// When the copy fails, or does not give them back.
pub(super) async fn place(target: &dyn Store, path: &ObjectPath, bytes: Bytes) -> Result<bool, CopyError> {
    let mended = match target.put_new(path, bytes.clone()).await {
        Ok(()) => false,
        Err(StoreError::AlreadyExists { .. }) => {
            if comes_to_hold(target, path, &bytes).await? {
                return Ok(false);
            }
            replace(target, path, bytes.clone()).await?;
            true
        }
        Err(error) => return Err(CopyError::Target(error)),
    };
    if comes_to_hold(target, path, &bytes).await? {
        return Ok(mended);
    }
    Err(CopyError::Altered { object: path.clone() })
}

/// Between two looks at an object that somebody may be writing.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_millis(500) };
/// So many looks in a row at one that stays as it is: nobody is.
const UNCHANGED: usize = 6;
/// Looks in all.
const LOOKS: usize = 240;

/// Whether the copy holds these bytes, at once or when whoever writes them there is done: another run of the same copy, whose
/// objects appear on a folder while they are written.
async fn comes_to_hold(target: &dyn Store, path: &ObjectPath, bytes: &Bytes) -> Result<bool, CopyError> {
    if holds(target, path, bytes).await? {
        return Ok(true);
    }
    let (mut before, mut unchanged) = (None, 0);
    for _ in 0..LOOKS {
        tokio::time::sleep(PAUSE).await;
        let size = match target.head(path).await {
            Ok(meta) => Some(meta.size),
            Err(StoreError::NotFound { .. }) => None,
            // It is no plain file.
            Err(StoreError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(CopyError::Target(error)),
        };
        if size == Some(bytes.len() as u64) && holds(target, path, bytes).await? {
            return Ok(true);
        }
        unchanged = if size == before { unchanged + 1 } else { 0 };
        if unchanged >= UNCHANGED {
            return Ok(false);
        }
        before = size;
    }
    Ok(false)
}

async fn holds(target: &dyn Store, path: &ObjectPath, bytes: &Bytes) -> Result<bool, CopyError> {
    match target.get(path, bytes.len() as u64).await {
        Ok(there) => Ok(there == *bytes),
        Err(StoreError::TooLong { .. } | StoreError::Damaged { .. } | StoreError::NotFound { .. }) => {
            Ok(false)
        }
        Err(error) => Err(CopyError::Target(error)),
    }
}

async fn replace(target: &dyn Store, path: &ObjectPath, bytes: Bytes) -> Result<(), CopyError> {
    let torn = |source| CopyError::Torn { object: path.clone(), source };
    match target.delete(path).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(source) => return Err(torn(source)),
    }
    match target.put_new(path, bytes).await {
        // Another run was quicker; whoever reads it back sees what it wrote.
        Ok(()) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Err(source) => Err(torn(source)),
    }
}
