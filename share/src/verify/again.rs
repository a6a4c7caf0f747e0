//! One object, read again from where it lies and compared with its name: what verifying a round and the scrub do.

use std::time::Duration;

use muster_protocol::ids::ObjectId;

use super::damage::{Damage, Fault, Trouble, sort};
use super::pace::Pace;
use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};

/// Bytes that are read at once: neither memory nor whoever else runs here waits for a whole pack.
const PIECE_BYTES: u64 = 1024 * 1024;
/// Before what seems damaged is read once more.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// What a second look at an object found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// It is what its name says.
    Whole,
    /// It read wrongly once and rightly right after: the object is whole, and what carries it is not to be trusted.
    Flickers(Damage),
    /// It was missing once, and right after it is there and whole: the share, or the object, was away. No byte was wrong.
    Returned(Damage),
}

/// Reads an object of any length a piece at a time and compares it with its name. `pace` is asked before each piece. What seems damaged is read twice: a wrong read on the way is no damage.
///
/// What is missing is damage only where the share is there without it: `store` is a [`Sure`](crate::log::Sure) one.
///
/// # Errors
/// When it is damaged, or the share does not answer.
pub async fn read_again(
    store: &dyn Store,
    path: &ObjectPath,
    id: &ObjectId,
    want: u64,
    pace: &mut Pace,
) -> Result<Again, Trouble> {
    let first = match compare(store, path, id, want, pace).await {
        Ok(()) => return Ok(Again::Whole),
        Err(Trouble::Damaged(first)) => first,
        Err(error @ Trouble::Store(_)) => return Err(error),
    };
    tokio::time::sleep(ONCE_MORE).await;
    compare(store, path, id, want, pace).await?;
    Ok(match first.fault {
        Fault::Missing => Again::Returned(first),
        Fault::Length { .. }
        | Fault::Hash
        | Fault::Unreadable { .. }
        | Fault::Forged { .. }
        | Fault::Content { .. } => Again::Flickers(first),
    })
}

/// As everywhere, but that a refusal says nothing of the object: rights that somebody changed are no damage.
fn seen(path: &ObjectPath, want: u64, error: StoreError) -> Trouble {
    if matches!(error, StoreError::Denied { .. }) { Trouble::Store(error) } else { sort(path, want, error) }
}

async fn compare(
    store: &dyn Store,
    path: &ObjectPath,
    id: &ObjectId,
    want: u64,
    pace: &mut Pace,
) -> Result<(), Trouble> {
    let have = store.head(path).await.map_err(|error| seen(path, want, error))?.size;
    if have != want {
        return Err(Damage::new(path.clone(), Fault::Length { have, want }).into());
    }
    store.cool(path).await;
    let (mut hasher, mut at) = (ObjectId::pieces(), 0);
    while at < want {
        let to = want.min(at + PIECE_BYTES);
        pace.take(to - at).await;
        let piece = store.get_range(path, at..to).await.map_err(|error| seen(path, want, error))?;
        let hashed = tokio::task::spawn_blocking(move || hasher.and(&piece)).await;
        hasher = hashed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        at = to;
    }
    if hasher.finish() == *id { Ok(()) } else { Err(Damage::new(path.clone(), Fault::Hash).into()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use muster_protocol::ids::ObjectId;

    use super::{Again, read_again};
    use crate::layout::ObjectPath;
    use crate::store::faults::{Fault as StoreFault, Faulty, Op};
    use crate::store::{FileStore, Store};
    use crate::verify::{Damage, Fault, Pace, Trouble};

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_whole_missing_short_other_or_flickers() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = Arc::new(FileStore::open(folder.path().into()).await.expect("a share"));
        let bytes = vec![7; 3 << 20];
        let id = ObjectId::of(&bytes);
        let path = ObjectPath::Pack { service: "dns".parse().expect("a name"), id };
        let want = bytes.len() as u64;
        let look = async |store: &dyn Store| match read_again(store, &path, &id, want, &mut Pace::unlimited())
            .await
        {
            Err(Trouble::Damaged(damage)) => Err(damage.fault),
            Err(Trouble::Store(error)) => panic!("{error}"),
            Ok(again) => Ok(again),
        };
        assert_eq!(look(store.as_ref()).await, Err(Fault::Missing));
        store.put_new(&path, Bytes::from(bytes.clone())).await.expect("stored");
        assert_eq!(look(store.as_ref()).await, Ok(Again::Whole));
        let began = tokio::time::Instant::now();
        read_again(store.as_ref(), &path, &id, want, &mut Pace::new(1 << 20)).await.expect("whole");
        assert_eq!(began.elapsed().as_secs(), 2, "of three pieces, two wait for their turn");
        // One read gives another byte, the next does not.
        let lies = |nth| {
            Faulty::new(Arc::clone(&store), move |call| match call.op == Op::Get && call.nth == nth {
                true => StoreFault::Flip(5),
                false => StoreFault::None,
            })
        };
        let away = Faulty::new(Arc::clone(&store), |call| match call.op == Op::Head && call.nth == 0 {
            true => StoreFault::Absent,
            false => StoreFault::None,
        });
        let missed = Damage::new(path.clone(), Fault::Missing);
        assert_eq!(look(&away).await, Ok(Again::Returned(missed)), "no byte was wrong");
        let flickers = Damage::new(path.clone(), Fault::Hash);
        assert_eq!(look(&lies(1)).await, Ok(Again::Flickers(flickers)));
        let file = folder.path().join(path.to_string());
        let mut other = bytes.clone();
        other[1] ^= 1;
        std::fs::write(&file, &other).expect("written");
        assert_eq!(look(store.as_ref()).await, Err(Fault::Hash));
        std::fs::write(&file, &bytes[1..]).expect("written");
        assert_eq!(look(store.as_ref()).await, Err(Fault::Length { have: want - 1, want }));
    }
}
