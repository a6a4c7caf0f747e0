//! A service that says what a test tells it to: refusals that no server at hand gives, and listings longer than one wants
//! to fill a server with.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::alert::Code;
use muster_protocol::ids::ObjectId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::opened;
use crate::layout::{ObjectPath, Prefix};
use crate::store::fixture::{alone, listed};
use crate::store::{Listed, StoreError};

pub(super) const S3: &str = "access_key_id = AKADMIN\nsecret_access_key = SKADMIN\n";
pub(super) const AZURE: &str = "account_key = a2V5\n";
/// Names of the long listings.
const NAMES: usize = 100_000;
/// Of a page, as the services have it: S3 a thousand, Azure five.
const PAGES: [usize; 2] = [1_000, 5_000];
/// What a listing may need, in KiB: a few pages. All names together are more than ten times as much.
const GROWTH: u64 = 8 * 1024;

type Answers = dyn Fn(&str) -> (u16, String) + Send + Sync;

/// Answers every request by its first line: status and body.
pub(super) async fn serve(answers: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    let answers: Arc<Answers> = Arc::new(answers);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                let mut asked = Vec::new();
                loop {
                    let end = loop {
                        if let Some(at) = asked.windows(4).position(|four| four == b"\r\n\r\n") {
                            break at + 4;
                        }
                        let mut part = [0; 4096];
                        match client.read(&mut part).await {
                            Ok(read) if read > 0 => asked.extend_from_slice(&part[..read]),
                            Ok(_) | Err(_) => return,
                        }
                    };
                    let head = String::from_utf8_lossy(&asked[..end]).to_lowercase();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let length: usize = length.map_or(0, |length| length.trim().parse().expect("a length"));
                    while asked.len() < end + length {
                        let mut part = [0; 4096];
                        match client.read(&mut part).await {
                            Ok(read) if read > 0 => asked.extend_from_slice(&part[..read]),
                            Ok(_) | Err(_) => return,
                        }
                    }
                    let line = String::from_utf8_lossy(&asked[..end]).lines().next().map(str::to_owned);
                    let (status, body) = answers(&line.unwrap_or_default());
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let sent = client.write_all(head.as_bytes()).await;
                    if sent.is_err() || client.write_all(body.as_bytes()).await.is_err() {
                        return;
                    }
                    asked.drain(..end + length);
                }
            });
        }
    });
    address.to_string()
}

pub(super) fn url(kind: usize, at: &str) -> String {
    match kind {
        0 => format!("s3://backups/fleet?endpoint=http://{at}"),
        _ => format!("azblob://account/backups/fleet?endpoint=http://{at}/account"),
    }
}

#[tokio::test]
async fn refusals_of_services_that_are_not_at_hand_have_their_codes() {
    let path = ObjectPath::List(ObjectId::of(b"x"));
    for (kind, status, word, code) in [
        (0, 507, "XMinioStorageFull", Code::Share05),
        (0, 403, "QuotaExceeded", Code::Share05),
        (0, 400, "ExpiredToken", Code::Share03),
        (0, 400, "KeyTooLongError", Code::Share02),
        (0, 503, "SlowDown", Code::Share07),
        (0, 500, "InternalError", Code::Share07),
        (0, 405, "MethodNotAllowed", Code::Share07),
        (1, 409, "InsufficientAccountQuota", Code::Share05),
        (1, 403, "AuthenticationFailed", Code::Share03),
        (1, 403, "AuthorizationPermissionMismatch", Code::Share04),
        (1, 404, "ContainerNotFound", Code::Share02),
        (1, 409, "BlobImmutableDueToPolicy", Code::Share04),
        (1, 503, "ServerBusy", Code::Share07),
    ] {
        let body = format!("<Error><Code>{word}</Code><Message>said so</Message></Error>");
        let at = serve(move |_| (status, body.clone())).await;
        let store = opened(url(kind, &at), [S3, AZURE][kind]).await;
        let error = store.put_new(&path, Bytes::from_static(b"x")).await.expect_err("refused");
        assert_eq!(error.alert(), Some(code), "{status} {word}: {error:?}");
        let said = format!("{error:?}");
        assert!(said.contains(word), "{said}");
        assert!(!said.contains("SKADMIN") && !said.contains("http://"), "{said}");
    }
}

/// The page that a request line asks for, as this kind of service would give it.
fn page(kind: usize, line: &str) -> String {
    let token = ["continuation-token=", "marker="][kind];
    let from = line.split_once(token).and_then(|(_, rest)| rest.split(['&', ' ']).next());
    let from: usize = from.map_or(0, |from| from.parse().expect("our token"));
    let until = (from + PAGES[kind]).min(NAMES);
    let mut body = ["<ListBucketResult>", "<EnumerationResults><Blobs>"][kind].to_owned();
    for number in from..until {
        // In the order of the names, as the services list.
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let key = format!("fleet/{}", ObjectPath::List(ObjectId::from_bytes(id)));
        body.push_str(&match kind {
            0 => format!("<Contents><Key>{key}</Key><Size>{number}</Size></Contents>"),
            _ => format!(
                "<Blob><Name>{key}</Name><Properties><Content-Length>{number}</Content-Length></Properties></Blob>"
            ),
        });
    }
    let more = if until < NAMES { until.to_string() } else { String::new() };
    body.push_str(&match kind {
        0 => format!(
            "<IsTruncated>{}</IsTruncated><NextContinuationToken>{more}</NextContinuationToken></ListBucketResult>",
            until < NAMES
        ),
        _ => format!("</Blobs><NextMarker>{more}</NextMarker></EnumerationResults>"),
    });
    body
}

#[tokio::test]
async fn a_hundred_thousand_objects_are_listed_in_bounded_memory() {
    if !alone("store::object::tests::canned::a_hundred_thousand_objects_are_listed_in_bounded_memory") {
        return;
    }
    for kind in [0, 1] {
        let at = serve(move |line| (200, page(kind, line))).await;
        let store = opened(url(kind, &at), [S3, AZURE][kind]).await;
        let (count, bytes, grown) = listed(store.as_ref(), &Prefix::Lists).await;
        assert_eq!((count, bytes), (NAMES, (NAMES as u64 - 1) * NAMES as u64 / 2), "each exactly once");
        assert!(grown < GROWTH, "kind {kind}: {grown} KiB");
    }
}

#[tokio::test]
async fn a_key_with_two_slashes_is_a_line_like_others() {
    let s3 = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>fleet/lists/a//b</Key><Size>1</Size>\
        </Contents><Contents><Key>fleet/FORMAT</Key><Size>2</Size></Contents></ListBucketResult>";
    let at = serve(move |_| (200, s3.to_owned())).await;
    let lines: Vec<_> = opened(url(0, &at), S3).await.list(&Prefix::Everything).collect().await;
    let lines: Vec<_> = lines.into_iter().map(|line| line.expect("a line")).collect();
    let foreign = Listed::Foreign { name: "lists/a//b".to_owned() };
    assert_eq!(lines, [foreign, Listed::Object { path: ObjectPath::Format, size: 2 }]);
}

/// What a listing leaves out, nobody may think gone.
#[tokio::test]
async fn a_listing_that_breaks_off_or_goes_round_ends_with_an_error() {
    for kind in [0, 1] {
        let second =
            move |line: &str| ["continuation-token=", "marker="].iter().any(|word| line.contains(word));
        let at = serve(move |line| if second(line) { (500, String::new()) } else { (200, page(kind, line)) })
            .await;
        let cut = serve(move |line| (200, page(kind, line)[..20_000].to_owned())).await;
        // Always the same page, which names itself as the next one.
        let round = serve(move |line| {
            let first = page(kind, "GET /");
            (200, if second(line) { first } else { page(kind, line) })
        })
        .await;
        for (at, lines) in [(at, PAGES[kind]), (cut, 0), (round, PAGES[kind])] {
            let store = opened(url(kind, &at), [S3, AZURE][kind]).await;
            let listed: Vec<_> = store.list(&Prefix::Lists).collect().await;
            assert_eq!(listed.len(), lines + 1, "kind {kind}");
            assert!(matches!(listed.last(), Some(Err(StoreError::Io { .. }))), "{:?}", listed.last());
        }
    }
}
