//! A service that means no good: what it is told is not sent on, what it answers has an end.

use std::io::ErrorKind;
use std::net;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use muster_protocol::alert::Code;
use muster_protocol::ids::ObjectId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::canned::{AZURE, S3, serve, url};
use super::opened;
use crate::layout::{ObjectPath, Prefix};
use crate::store::{Store, StoreError};

const TOKEN: &str = "access_key_id = AKADMIN\nsecret_access_key = SKADMIN\nsession_token = TKADMIN\n";
const SAS: &str = "sas_token = sv=2026&sig=SIGADMIN%2B\n";

/// Answers every request with these bytes, then with as many of `more` as are taken, and closes the connection.
async fn raw(answer: String, more: &'static [u8], asked: Arc<Notify>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (answer, asked) = (answer.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut head = [0; 16 * 1024];
                let _ = client.read(&mut head).await;
                asked.notify_one();
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                let mut sent = client.write_all(answer.as_bytes()).await;
                while !more.is_empty() && sent.is_ok() {
                    sent = client.write_all(more).await;
                }
            });
        }
    });
    address.to_string()
}

/// The errors of every kind of call.
async fn errors(store: &dyn Store) -> Vec<StoreError> {
    let path = ObjectPath::List(ObjectId::of(b"x"));
    vec![
        store.get(&path, 1 << 40).await.expect_err("get"),
        store.get_range(&path, 0..4).await.expect_err("range"),
        store.head(&path).await.expect_err("head"),
        store.put_new(&path, "x".into()).await.expect_err("put"),
        store.delete(&path).await.expect_err("delete"),
        store.list(&Prefix::Lists).next().await.expect("a line").expect_err("list"),
    ]
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let asked = Arc::new(Notify::new());
    for status in [301, 302, 307, 308] {
        for kind in [0, 1] {
            let elsewhere = net::TcpListener::bind("127.0.0.1:0").expect("listens");
            elsewhere.set_nonblocking(true).expect("set");
            let other = elsewhere.local_addr().expect("an address");
            let answer = format!(
                "HTTP/1.1 {status} X\r\nlocation: http://{other}/steal?sig=SIGADMIN\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let at = raw(answer, b"", Arc::clone(&asked)).await;
            let store = opened(url(kind, &at), [TOKEN, SAS][kind]).await;
            for error in errors(store.as_ref()).await {
                assert_eq!(error.alert(), Some(Code::Share02), "{error:?}");
                let said = error.to_string();
                assert!(said.contains(&format!("http://{other} ")) && said.contains("endpoint"), "{said}");
                assert!(said.contains(&at), "it names the share: {said}");
                assert!(!format!("{error:?}").contains("SIGADMIN"), "{error:?}");
            }
            let came = elsewhere.accept().map_err(|error| error.kind());
            assert!(matches!(came, Err(ErrorKind::WouldBlock)), "{status}: {came:?}");
        }
    }
    let answer =
        "HTTP/1.1 301 X\r\nx-amz-bucket-region: eu-1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let at = raw(answer.to_owned(), b"", asked).await;
    let store = opened(url(0, &at), TOKEN).await;
    for error in errors(store.as_ref()).await {
        assert!(error.to_string().contains("set region=eu-1"), "{error}");
    }
}

#[tokio::test]
async fn lengths_that_are_announced_reserve_nothing_and_endless_bodies_end() {
    for (status, kind) in [(500, 0), (500, 1), (403, 0), (403, 1)] {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40);
        let at = raw(answer, &[b'E'; 65536], Arc::default()).await;
        let store = opened(url(kind, &at), [S3, AZURE][kind]).await;
        for error in errors(store.as_ref()).await {
            let code = error.alert().expect("a code");
            let want = if status == 500 { [Code::Share07; 2] } else { [Code::Share03, Code::Share04] };
            assert!(want.contains(&code), "{status}: {error:?}");
        }
    }
    let head = "etag: \"x\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
    let answer = format!("HTTP/1.1 200 X\r\n{head}content-length: {}\r\n\r\n", 1_u64 << 40);
    for kind in [0, 1] {
        let at = raw(answer.clone(), &[b'E'; 65536], Arc::default()).await;
        let store = opened(url(kind, &at), [S3, AZURE][kind]).await;
        let listed = store.list(&Prefix::Lists).next().await.expect("a line");
        assert!(matches!(listed, Err(StoreError::Io { .. })), "{listed:?}");
        let read = store.get(&ObjectPath::Format, 1 << 20).await;
        assert!(matches!(read, Err(StoreError::TooLong { .. })), "{read:?}");
    }
}

#[tokio::test]
async fn refusals_repeat_no_secret() {
    let body = "<Error><Code>AuthenticationFailed</Code><Message>url was /acc/con?sv=1&amp;sig=SIGADMIN%2B of SKADMIN, TKADMIN\
        \u{1b}[2J</Message></Error>";
    let at = serve(move |_| (403, body.to_owned())).await;
    for (kind, credentials) in [(0, TOKEN), (1, SAS)] {
        let store = opened(url(kind, &at), credentials).await;
        for error in errors(store.as_ref()).await {
            let said = format!("{error:?}");
            let secrets: &[&str] = [&["SKADMIN", "TKADMIN", "SIGADMIN", "\u{1b}"][..], &["SIGADMIN"]][kind];
            assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
        }
    }
}

/// A share that was opened is asked before anybody has put anything around it.
#[tokio::test]
async fn a_service_that_never_answers_ends_the_first_call_as_well() {
    let asked = Arc::new(Notify::new());
    let at = raw(String::new(), b"", Arc::clone(&asked)).await;
    let store = opened(url(0, &at), S3).await;
    let call = tokio::spawn(async move { store.head(&ObjectPath::Format).await });
    asked.notified().await;
    tokio::time::pause();
    let ended = tokio::time::timeout(Duration::from_secs(60), call).await;
    let ended = ended.expect("a limit").expect("no panic");
    assert!(matches!(ended, Err(StoreError::TimedOut { .. })), "{ended:?}");
}

/// A page of so many names, truncated, with a token that was never there before.
fn more(count: u32, names: impl Fn(u32) -> String) -> String {
    let mut body = "<ListBucketResult><IsTruncated>true</IsTruncated>".to_owned();
    for number in 0..count {
        body.push_str(&format!(
            "<Contents><Key>fleet/lists/{}</Key><Size>5</Size></Contents>",
            names(number)
        ));
    }
    let mut token = [0; 8];
    getrandom::fill(&mut token).expect("randomness");
    body + &format!("<NextContinuationToken>{token:?}</NextContinuationToken></ListBucketResult>")
}

#[tokio::test]
async fn a_listing_without_an_end_ends() {
    let random = |_| {
        let mut name = [0; 8];
        getrandom::fill(&mut name).expect("randomness");
        format!("{name:02x?}")
    };
    let same = |number| format!("{number:04}");
    for (at, most) in [
        (serve(move |_| (200, more(1_000, random))).await, 100_000),
        (serve(move |_| (200, more(1_000, same))).await, 10_000),
        (serve(move |_| (200, more(0, same))).await, 1),
    ] {
        let lines: Vec<_> = opened(url(0, &at), S3).await.list(&Prefix::Lists).take(most).collect().await;
        let Some(Err(error)) = lines.last() else { panic!("{} lines, and no end", lines.len()) };
        assert!(format!("{error:?}").contains("repeats itself"), "{error:?}");
    }
}

/// Both orders are those of services: of bytes, and folder by folder.
#[tokio::test]
async fn a_listing_in_either_order_is_taken() {
    for names in [["a-b", "a/b", "a0"], ["a/b", "a-b", "a0"]] {
        let at = serve(move |line| {
            let from = line.split_once("continuation-token=").and_then(|(_, rest)| rest.chars().next());
            let page = from.and_then(|from| from.to_digit(10)).map_or(0, |from| from as usize);
            let (name, is_last) = (names[page], page == names.len() - 1);
            let next = page + 1;
            (
                200,
                format!(
                    "<ListBucketResult><IsTruncated>{}</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>\
                    <Contents><Key>fleet/lists/{name}</Key><Size>5</Size></Contents></ListBucketResult>",
                    !is_last
                ),
            )
        })
        .await;
        let lines: Vec<_> = opened(url(0, &at), S3).await.list(&Prefix::Lists).collect().await;
        assert!(lines.len() == 3 && lines.iter().all(Result::is_ok), "{lines:?}");
    }
}

#[tokio::test]
async fn a_listing_that_is_nested_without_an_end_is_refused() {
    for kind in [0, 1] {
        let at = serve(|_| (200, "<a>".repeat(200_000))).await;
        let store = opened(url(kind, &at), [S3, AZURE][kind]).await;
        let listed = store.list(&Prefix::Lists).next().await.expect("a line");
        assert!(matches!(listed, Err(StoreError::Io { .. })), "{listed:?}");
        assert!(format!("{listed:?}").contains("nested"), "{listed:?}");
    }
}
