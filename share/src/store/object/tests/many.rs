//! A bucket of a hundred thousand objects on a real server: it takes minutes to fill, `./x long` does it.

use bytes::Bytes;
use futures::{StreamExt, stream};
use muster_protocol::ids::ObjectId;
use muster_test_servers::SeaweedFs;

use super::opened;
use crate::layout::{ObjectPath, Prefix};
use crate::store::fixture::{alone, listed};

const OBJECTS: u32 = 100_000;
const AT_ONCE: usize = 16;
/// A few pages of a thousand names, in KiB. All names together are more than ten times as much.
const GROWTH: u64 = 8 * 1024;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: ./x long"]
async fn a_bucket_of_a_hundred_thousand_objects_is_listed_in_bounded_memory() {
    const NAME: &str =
        "store::object::tests::many::a_bucket_of_a_hundred_thousand_objects_is_listed_in_bounded_memory";
    if !alone(NAME) {
        return;
    }
    let server = SeaweedFs::start();
    let store = opened(server.url("fleet"), &SeaweedFs::credentials("admin")).await;
    let mut puts = stream::iter(0..OBJECTS)
        .map(|number| {
            let store = store.clone();
            async move {
                let path = ObjectPath::List(ObjectId::of(&number.to_be_bytes()));
                store.put_new(&path, Bytes::from_static(b"x")).await
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(put) = puts.next().await {
        put.expect("written");
    }
    drop(puts);
    let (count, bytes, grown) = listed(store.as_ref(), &Prefix::Everything).await;
    assert_eq!((count, bytes), (OBJECTS as usize, u64::from(OBJECTS)));
    assert!(grown < GROWTH, "{grown} KiB");
}
