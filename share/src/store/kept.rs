//! Writing what a record of the log will name: the share must have it before the log says so. A share that reports a write and
//! keeps nothing, or other bytes, is found out here, while somebody can still write it again.

use bytes::Bytes;

use super::{Store, StoreError, settle};
use crate::layout::ObjectPath;

/// Writes `bytes` and reads them back from the share. What lies there already with the same bytes is as good.
///
/// # Errors
/// [`StoreError::NotKept`] when the share has none or others afterwards, and those of a write and of a read.
pub async fn put_and_read_back(
    store: &dyn Store,
    path: &ObjectPath,
    bytes: &Bytes,
) -> Result<(), StoreError> {
    match store.put_new(path, bytes.clone()).await {
        Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
        Err(failure) => return settle(store, path, bytes, failure).await,
    }
    // What this machine remembers of its own write says nothing of the share.
    store.cool(path).await;
    let not_kept = |what| StoreError::NotKept { path: path.to_string(), what };
    match store.get(path, bytes.len() as u64).await {
        Ok(there) if there == *bytes => Ok(()),
        Ok(_) | Err(StoreError::TooLong { .. } | StoreError::Damaged { .. }) => {
            Err(not_kept("other bytes lie there"))
        }
        Err(StoreError::NotFound { .. }) => Err(not_kept("nothing is there")),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use muster_protocol::alert::Code;
    use muster_protocol::ids::ObjectId;

    use super::put_and_read_back;
    use crate::layout::ObjectPath;
    use crate::store::faults::{Call, Fault, Faulty, Op};
    use crate::store::{FileStore, Store, StoreError};

    async fn put(rule: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static) -> Result<(), StoreError> {
        let folder = tempfile::tempdir().expect("a folder");
        let store = FileStore::open(folder.path().to_owned()).await.expect("a share");
        let store = Faulty::new(Arc::new(store), rule);
        let bytes = Bytes::from_static(b"an object");
        put_and_read_back(&store, &ObjectPath::Manifest(ObjectId::of(&bytes)), &bytes).await
    }

    fn at(call: &Call<'_>, op: Op, fault: Fault) -> Fault {
        if call.op == op { fault } else { Fault::None }
    }

    #[tokio::test]
    async fn what_the_share_only_says_that_it_wrote_is_found_out() {
        put(|_| Fault::None).await.expect("kept");
        put(|call| at(call, Op::Put, Fault::LostReply)).await.expect("it is there");
        for lie in [Fault::Forget, Fault::Flip(9)] {
            let error = put(move |call| at(call, Op::Put, lie.clone())).await.expect_err("a lie");
            assert!(matches!(error, StoreError::NotKept { .. }), "{error}");
            assert_eq!(error.alert(), Some(Code::Share07));
        }
        let error = put(|call| at(call, Op::Put, Fault::Full)).await.expect_err("full");
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        let error = put(|call| at(call, Op::Get, Fault::Unreachable)).await.expect_err("nobody knows");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_is_taken_counts_only_with_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = FileStore::open(folder.path().to_owned()).await.expect("a share");
        let (whole, torn) = (Bytes::from_static(b"an object"), Bytes::from_static(b"an"));
        let path = ObjectPath::List(ObjectId::of(&whole));
        store.put_new(&path, torn).await.expect("written");
        let error = put_and_read_back(&store, &path, &whole).await.expect_err("torn");
        assert!(matches!(error, StoreError::NotKept { .. }), "{error}");
        store.delete(&path).await.expect("deleted");
        put_and_read_back(&store, &path, &whole).await.expect("kept");
        put_and_read_back(&store, &path, &whole).await.expect("it is there");
    }
}
