//! One suite for both implementations, and what only a real server can show: restarts, lost streams, old versions.

use crate::{
    Bus, BusError, ConnectError, EmbeddedBus, Headers, LeaseSwap, LeaseValue, Limits, MSG_ID, Message,
    NatsBus, NatsConfig, Streams, Subscription, WorkQueue, test_server::TestServer,
};
use bytes::Bytes;
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

const STATE: &str = "muster.v1.test.state";
const TRIGGER: &str = "muster.v1.test.trigger";
const QUEUE: &str = "muster.v1.test.trigger.async";
/// For what must happen.
const LONG: Duration = Duration::from_secs(20);
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(200);

fn streams() -> Streams {
    Streams::new("test", STATE, QUEUE).expect("valid")
}

fn limits() -> Limits {
    Limits {
        ack_wait: Duration::from_secs(1),
        queued_jobs: 4,
        payload_bytes: 4096,
        reconnect_first: Duration::from_millis(20),
        reconnect_longest: Duration::from_millis(100),
        ..Limits::default()
    }
}

fn config(server: &TestServer) -> NatsConfig {
    NatsConfig { limits: limits(), ..NatsConfig::new(server.url(), "test", streams()) }
}

async fn connected(server: &TestServer) -> NatsBus {
    NatsBus::connect(config(server)).await.expect("connects")
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn header(name: &str, value: &str) -> Headers {
    vec![(name.to_owned(), value.to_owned())]
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

async fn message(subscription: &mut Subscription) -> Message {
    soon("a message", subscription.next()).await.expect("the bus is open")
}

/// Answers every request on `subject` with `name` and the request's payload.
async fn echo(bus: &Arc<dyn Bus>, subject: &str, group: Option<&str>, name: &'static str) {
    let mut requests = bus.subscribe(subject, group).await.expect("subscribes");
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let answer = format!("{name}:{}", String::from_utf8_lossy(&request.payload));
            request.respond(header("Content-Type", "text/plain"), bytes(&answer)).await.expect("answers");
        }
    });
}

async fn empty_queue(queue: &mut Box<dyn WorkQueue>) {
    assert!(queue.next(SHORT).await.expect("readable").is_none(), "a job was left");
}

async fn conforms(bus: Arc<dyn Bus>) {
    bus.ensure().await.expect("streams");
    bus.ensure().await.expect("idempotent");
    assert!(bus.link().borrow().connected);
    messages(&bus).await;
    requests(&bus).await;
    last_values(&bus).await;
    lease(&bus).await;
    jobs(&bus).await;
    invalid(&bus).await;
    assert_eq!(bus.dropped_messages(), 0);
    closes(bus).await;
}

async fn messages(bus: &Arc<dyn Bus>) {
    let mut exact = bus.subscribe("a.b.c", None).await.expect("subscribes");
    let mut star = bus.subscribe("a.*.c", None).await.expect("subscribes");
    let mut rest = bus.subscribe("a.>", None).await.expect("subscribes");
    let sent =
        vec![("traceparent".to_owned(), "00-01-02-01".to_owned()), ("X-Other".to_owned(), "ä: b".to_owned())];
    bus.publish("a.b.c", sent.clone(), bytes("one")).await.expect("sent");
    bus.publish("a.b", Headers::new(), Bytes::new()).await.expect("sent");
    for subscription in [&mut exact, &mut star, &mut rest] {
        let received = message(subscription).await;
        assert_eq!((received.subject.as_str(), &received.payload[..]), ("a.b.c", &b"one"[..]));
        assert_eq!(received.header("TraceParent"), Some("00-01-02-01"));
        assert_eq!(received.header("x-other"), Some("ä: b"));
        assert!(received.reply.is_none());
        received.respond(Headers::new(), bytes("nobody waits")).await.expect("nothing to do");
    }
    let second = message(&mut rest).await;
    assert_eq!((second.subject.as_str(), second.payload.len(), second.headers.len()), ("a.b", 0, 0));
    assert!(timeout(SHORT, star.next()).await.is_err(), "'*' matches one token only");
    // One of each group, and all who are in none.
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(bus.subscribe("g.x", Some("workers")).await.expect("subscribes"));
    }
    let mut other = bus.subscribe("g.*", Some("others")).await.expect("subscribes");
    for number in 0..30 {
        bus.publish("g.x", Headers::new(), bytes(&number.to_string())).await.expect("sent");
    }
    for number in 0..30 {
        assert_eq!(message(&mut other).await.payload, number.to_string());
    }
    let mut seen = Vec::new();
    for member in &mut members {
        while let Ok(Some(received)) = timeout(SHORT, member.next()).await {
            seen.push(String::from_utf8_lossy(&received.payload).parse::<u32>().expect("a number"));
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

async fn requests(bus: &Arc<dyn Bus>) {
    let ask = async |subject: &str, limit| bus.request(subject, header("a", "b"), bytes("hi"), limit).await;
    let nobody = ask(TRIGGER, LONG).await.expect_err("nobody listens");
    assert!(matches!(nobody, BusError::NoResponders { .. }), "{nobody:?}");
    // The answer is the service's own, not an acknowledgement by a stream.
    echo(bus, TRIGGER, Some("coordinators"), "echo").await;
    for _ in 0..20 {
        let answer = ask(TRIGGER, LONG).await.expect("answered");
        assert_eq!(&answer.payload[..], b"echo:hi");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert!(answer.reply.is_none());
    }
    let silent = bus.subscribe("silent", None).await.expect("subscribes");
    let late = ask("silent", SHORT).await.expect_err("no answer");
    assert!(matches!(late, BusError::Timeout { .. }), "{late:?}");
    drop(silent);
    soon("the end of a dropped subscription", async {
        while !matches!(ask("silent", SHORT).await, Err(BusError::NoResponders { .. })) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let kept = ask(QUEUE, LONG).await.expect_err("a stream would answer");
    assert!(matches!(kept, BusError::Subject { .. }), "{kept:?}");
}

async fn last_values(bus: &Arc<dyn Bus>) {
    assert_eq!(bus.last_value(STATE).await.expect("readable"), None);
    let mut watch = bus.watch_last_value(STATE).await.expect("watches");
    let service = format!("{STATE}.dns");
    let first = bus.set_last_value(STATE, bytes("one")).await.expect("stored");
    let other = bus.set_last_value(&service, bytes("dns")).await.expect("stored");
    let second = bus.set_last_value(STATE, bytes("two")).await.expect("stored");
    assert!(first < other && other < second);
    assert_eq!(bus.last_value(STATE).await.expect("readable"), Some(bytes("two")));
    assert_eq!(bus.last_value(&service).await.expect("readable"), Some(bytes("dns")));
    assert_eq!(soon("a value", watch.next()).await, Some(bytes("one")));
    assert_eq!(soon("a value", watch.next()).await, Some(bytes("two")));
    assert!(timeout(SHORT, watch.next()).await.is_err(), "another subject's value");
    let outside = bus.set_last_value("elsewhere", Bytes::new()).await.expect_err("not kept");
    assert!(matches!(outside, BusError::NotStored { .. }), "{outside:?}");
    assert!(matches!(bus.last_value(TRIGGER).await, Err(BusError::NotStored { .. })));
}

async fn lease(bus: &Arc<dyn Bus>) {
    assert_eq!(bus.lease().await.expect("readable"), None);
    // Of all who try at once, one gets it.
    let tries = (0..8).map(|number| bus.swap_lease(None, bytes(&format!("holder {number}"))));
    let swapped: Vec<_> =
        futures::future::join_all(tries).await.into_iter().map(|swap| swap.expect("answered")).collect();
    let stored: Vec<_> = (0..).zip(&swapped).filter(|(_, swap)| !matches!(swap, LeaseSwap::Lost)).collect();
    let [(winner, LeaseSwap::Stored(first))] = stored[..] else { panic!("not one winner: {swapped:?}") };
    let read = bus.lease().await.expect("readable");
    assert_eq!(read, Some(LeaseValue { revision: *first, payload: bytes(&format!("holder {winner}")) }));
    // Only who has seen the last one replaces it, and each write has a revision of its own.
    let LeaseSwap::Stored(second) = bus.swap_lease(Some(*first), bytes("again")).await.expect("answered")
    else {
        panic!("it was seen")
    };
    assert_ne!(*first, second);
    for old in [None, Some(*first), Some(second + 1)] {
        let lost = bus.swap_lease(old, bytes("late")).await.expect("answered");
        assert_eq!(lost, LeaseSwap::Lost, "{old:?}");
    }
    let read = bus.lease().await.expect("readable");
    assert_eq!(read, Some(LeaseValue { revision: second, payload: bytes("again") }));
}

async fn jobs(bus: &Arc<dyn Bus>) {
    // Stored before anybody works, once per id, whether sent with an acknowledgement or bare.
    let stored = bus.enqueue(QUEUE, header(MSG_ID, "one"), bytes("first")).await.expect("stored");
    assert!(!stored.duplicate);
    bus.publish(QUEUE, header(MSG_ID, "one"), bytes("again")).await.expect("sent");
    let again = bus.enqueue(QUEUE, header(MSG_ID, "one"), bytes("again")).await.expect("known");
    assert!(again.duplicate && again.sequence == stored.sequence, "{again:?}");
    let mut queue = bus.queue(QUEUE).await.expect("opens");
    let mut replica = bus.queue(QUEUE).await.expect("opens");
    let job = queue.next(LONG).await.expect("readable").expect("a job");
    assert_eq!(
        (&job.payload[..], job.header("nats-msg-id"), job.deliveries),
        (&b"first"[..], Some("one"), 1)
    );
    assert_eq!(job.subject, QUEUE);
    empty_queue(&mut replica).await;
    // Given back, dropped, and done at last.
    job.nak(Duration::ZERO).await.expect("given back");
    let job = replica.next(LONG).await.expect("readable").expect("the same job");
    assert_eq!((&job.payload[..], job.deliveries), (&b"first"[..], 2));
    drop(job);
    let job = queue.next(LONG).await.expect("readable").expect("the same job");
    assert_eq!((&job.payload[..], job.deliveries), (&b"first"[..], 3));
    job.ack().await.expect("done");
    bus.publish(QUEUE, header(MSG_ID, "one"), bytes("again")).await.expect("sent");
    empty_queue(&mut queue).await;
    // A worker that already waits gets a bare publication; jobs without ids are all different.
    let waiting = tokio::spawn(async move {
        let job = queue.next(LONG).await;
        (queue, job)
    });
    bus.publish(QUEUE, Headers::new(), bytes("bare")).await.expect("sent");
    let (mut queue, job) = soon("a job", waiting).await.expect("no panic");
    let job = job.expect("readable").expect("a job");
    assert_eq!(&job.payload[..], b"bare");
    job.ack().await.expect("done");
    // Full refuses, and has room again after.
    for number in 0..4 {
        bus.enqueue(QUEUE, Headers::new(), bytes(&number.to_string())).await.expect("room");
    }
    let full = bus.enqueue(QUEUE, Headers::new(), bytes("more")).await.expect_err("full");
    assert!(matches!(full, BusError::Full { .. }), "{full:?}");
    for number in 0..4 {
        let job = queue.next(LONG).await.expect("readable").expect("a job");
        assert_eq!(job.payload, number.to_string());
        job.ack().await.expect("done");
    }
    empty_queue(&mut queue).await;
    assert!(
        bus.queue(TRIGGER).await.is_err()
            && bus.enqueue(TRIGGER, Headers::new(), Bytes::new()).await.is_err()
    );
}

async fn invalid(bus: &Arc<dyn Bus>) {
    let publish = async |subject: &str, headers, payload| bus.publish(subject, headers, payload).await;
    assert!(matches!(publish("a.*", Headers::new(), Bytes::new()).await, Err(BusError::Subject { .. })));
    assert!(matches!(publish("a\r\nb", Headers::new(), Bytes::new()).await, Err(BusError::Subject { .. })));
    assert!(matches!(publish("a", header("b\r\n", ""), Bytes::new()).await, Err(BusError::Header { .. })));
    let large = publish("a", Headers::new(), Bytes::from(vec![0; 4097])).await.expect_err("too large");
    assert!(matches!(large, BusError::TooLarge { payload_bytes: 4097, limit_bytes: 4096, .. }), "{large:?}");
    assert!(publish("a", Headers::new(), Bytes::from(vec![0; 4096])).await.is_ok());
    assert!(bus.subscribe("a.>.b", None).await.is_err());
    assert!(bus.subscribe("a", Some("b c")).await.is_err());
}

async fn closes(bus: Arc<dyn Bus>) {
    let mut open = bus.subscribe("open", None).await.expect("subscribes");
    let mut link = bus.link();
    bus.close().await.expect("closes");
    assert!(soon("the end", open.next()).await.is_none());
    soon("the news", link.wait_for(|link| !link.connected)).await.expect("the news still live");
    assert!(matches!(bus.publish("open", Headers::new(), Bytes::new()).await, Err(BusError::Closed)));
    let asked = bus.request("open", Headers::new(), Bytes::new(), LONG).await;
    assert!(matches!(asked, Err(BusError::Closed)), "{asked:?}");
}

#[tokio::test]
async fn the_embedded_bus_conforms() {
    conforms(Arc::new(EmbeddedBus::new(streams(), limits()))).await;
}

#[tokio::test]
async fn the_nats_bus_conforms() {
    let Some(server) = TestServer::start().await else { return };
    conforms(Arc::new(connected(&server).await)).await;
}

async fn drops_and_counts(bus: Arc<dyn Bus>) {
    let mut slow = bus.subscribe("slow", None).await.expect("subscribes");
    let mut last = bus.subscribe("last", None).await.expect("subscribes");
    for _ in 0..50 {
        bus.publish("slow", Headers::new(), Bytes::new()).await.expect("sent");
    }
    bus.publish("last", Headers::new(), Bytes::new()).await.expect("sent");
    message(&mut last).await;
    let mut kept = 0;
    while timeout(SHORT, slow.next()).await.is_ok() {
        kept += 1;
    }
    assert!((4..50).contains(&kept), "{kept}");
    assert!(bus.dropped_messages() > 0);
}

#[tokio::test]
async fn a_full_subscription_drops_and_is_counted() {
    let narrow = Limits { subscription_messages: 4, ..limits() };
    drops_and_counts(Arc::new(EmbeddedBus::new(streams(), narrow.clone()))).await;
    let Some(server) = TestServer::start().await else { return };
    let bus = NatsBus::connect(NatsConfig { limits: narrow, ..config(&server) }).await.expect("connects");
    drops_and_counts(Arc::new(bus)).await;
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let Some(mut server) = TestServer::start().await else { return };
    let bus = connected(&server).await;
    bus.ensure().await.expect("streams");
    let mut watch = bus.watch_last_value(STATE).await.expect("watches");
    let mut queue = bus.queue(QUEUE).await.expect("opens");
    bus.set_last_value(STATE, bytes("before")).await.expect("stored");
    assert_eq!(soon("a value", watch.next()).await, Some(bytes("before")));
    let mut link = bus.link();
    server.kill();
    soon("the loss", link.wait_for(|link| !link.connected)).await.expect("news");
    let lost = bus.publish("a", Headers::new(), Bytes::new()).await.expect_err("down");
    assert!(matches!(lost, BusError::Disconnected { .. }), "{lost:?}");
    let asked = bus.request("a", Headers::new(), Bytes::new(), SHORT).await.expect_err("down");
    assert!(matches!(asked, BusError::Timeout { .. }), "{asked:?}");
    assert_eq!(bus.waiting_callers(), 0, "a caller that gave up is forgotten");
    assert!(queue.next(SHORT).await.is_ok_and(|job| job.is_none()));
    server.restart().await;
    let seen = *soon("the return", link.wait_for(|link| link.connected)).await.expect("news");
    assert_eq!(seen.connects, 2);
    let read = async { bus.last_value(STATE).await };
    assert_eq!(soon("an answer", read).await.expect("readable"), Some(bytes("before")));
    bus.set_last_value(STATE, bytes("after")).await.expect("stored");
    assert_eq!(soon("a value", watch.next()).await, Some(bytes("after")));
    bus.enqueue(QUEUE, Headers::new(), bytes("job")).await.expect("stored");
    queue.next(LONG).await.expect("readable").expect("a job").ack().await.expect("done");
}

/// Ten thousand that come back in the same instant would take the server down again.
#[tokio::test]
async fn those_who_lose_the_server_together_do_not_come_back_together() {
    let Some(mut server) = TestServer::start().await else { return };
    let delay = Duration::from_secs(4);
    let limits = Limits { reconnect_first: delay, reconnect_longest: delay, ..limits() };
    let connecting = (0..12).map(|_| {
        let config = NatsConfig { limits: limits.clone(), ..config(&server) };
        async { NatsBus::connect(config).await.expect("connects") }
    });
    let buses = futures::future::join_all(connecting).await;
    server.kill();
    for bus in &buses {
        let mut link = bus.link();
        soon("the loss", link.wait_for(|link| !link.connected)).await.expect("news");
    }
    server.restart().await;
    let coming = buses.iter().map(|bus| {
        let mut link = bus.link();
        async move {
            soon("it is found again", link.wait_for(|link| link.connected)).await.expect("news");
            Instant::now()
        }
    });
    let mut back = futures::future::join_all(coming).await;
    back.sort();
    // One in many millions are closer than that by chance.
    let spread = back[back.len() - 1] - back[0];
    assert!(spread > delay / 8, "all of them came back within {spread:?}");
}

#[tokio::test]
async fn a_wiped_server_is_set_up_again() {
    let Some(mut server) = TestServer::start().await else { return };
    let bus = connected(&server).await;
    bus.ensure().await.expect("streams");
    let mut queue = bus.queue(QUEUE).await.expect("opens");
    let mut watch = bus.watch_last_value(STATE).await.expect("watches");
    bus.set_last_value(STATE, bytes("lost")).await.expect("stored");
    bus.enqueue(QUEUE, Headers::new(), bytes("held")).await.expect("stored");
    let swap = bus.swap_lease(None, bytes("lease")).await.expect("answered");
    let LeaseSwap::Stored(lease) = swap else { panic!("nobody else is here") };
    let lease = Some(lease);
    let held = queue.next(LONG).await.expect("readable").expect("a job");
    let mut link = bus.link();
    server.kill();
    server.wipe();
    soon("the loss", link.wait_for(|link| !link.connected)).await.expect("news");
    server.restart().await;
    soon("the return", link.wait_for(|link| link.connected)).await.expect("news");
    let gone = bus.last_value(STATE).await.expect_err("no stream");
    assert!(matches!(gone, BusError::NoStream { .. }) && gone.is_transient(), "{gone:?}");
    held.ack().await.expect("a job whose queue is gone is done");
    // The lease is gone with its bucket: nobody holds it, and a holder learns that it has lost it.
    assert_eq!(bus.lease().await.expect("readable"), None);
    assert_eq!(bus.swap_lease(lease, bytes("late")).await.expect("answered"), LeaseSwap::Lost);
    let again = bus.swap_lease(None, bytes("new")).await.expect("answered");
    assert!(matches!(again, LeaseSwap::Stored(_)), "{again:?}");
    bus.set_last_value(STATE, bytes("new")).await.expect("stored in a new stream");
    assert_eq!(bus.last_value(STATE).await.expect("readable"), Some(bytes("new")));
    assert_eq!(soon("a value", watch.next()).await, Some(bytes("lost")));
    soon("a value", async { while watch.next().await != Some(bytes("new")) {} }).await;
    // The worker makes stream and consumer again by itself.
    let filling = async {
        while let Err(error) = bus.enqueue(QUEUE, Headers::new(), bytes("job")).await {
            assert!(matches!(error, BusError::NoStream { .. }), "{error:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (job, ()) = tokio::join!(queue.next(LONG), filling);
    job.expect("readable").expect("a job").ack().await.expect("done");
}

#[tokio::test]
async fn only_inboxes_are_answered() {
    let Some(server) = TestServer::start().await else { return };
    let bus = connected(&server).await;
    let raw = async_nats::connect(server.url()).await.expect("connects");
    let mut requests = bus.subscribe("ask", None).await.expect("subscribes");
    bus.ensure().await.expect("also makes sure that the server has the subscription");
    for (reply, answered) in [
        (STATE, false),
        ("$JS.API.STREAM.DELETE.MUSTER_test_STATE", false),
        ("_INBOXES", false),
        ("_INBOX.abc", true),
        ("_INBOX_dns.abc", true),
    ] {
        raw.publish_with_reply("ask", reply, Bytes::new()).await.expect("sent");
        assert_eq!(message(&mut requests).await.reply.is_some(), answered, "{reply}");
    }
}

#[tokio::test]
async fn a_stream_of_another_kind_is_refused() {
    let Some(server) = TestServer::start().await else { return };
    let bus = connected(&server).await;
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let foreign = async_nats::jetstream::stream::Config {
        name: "FOREIGN".to_owned(),
        subjects: vec![QUEUE.to_owned()],
        ..Default::default()
    };
    jetstream.create_stream(foreign).await.expect("made");
    let refused = bus.ensure().await.expect_err("the subject is taken");
    assert!(
        matches!(&refused, BusError::Stream { stream, .. } if stream == "MUSTER_test_QUEUE"),
        "{refused:?}"
    );
    let elsewhere = bus.enqueue(QUEUE, Headers::new(), Bytes::new()).await.expect_err("the wrong stream");
    assert!(matches!(elsewhere, BusError::Stream { .. }), "{elsewhere:?}");
}

#[tokio::test]
async fn a_dropped_bus_ends_its_connection() {
    let Some(server) = TestServer::start().await else { return };
    let bus = connected(&server).await;
    let mut link = bus.link();
    drop(bus);
    soon("the end", async { while link.changed().await.is_ok() {} }).await;
}

/// A listener that greets as a NATS server of `version` does, and answers the first ping.
async fn impostor(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let info =
                format!("INFO {{\"server_id\":\"x\",\"version\":\"{version}\",\"max_payload\":1048576}}\r\n");
            socket.write_all(info.as_bytes()).await.ok();
            let mut heard = Vec::new();
            while !heard.ends_with(b"PING\r\n")
                && socket.read_buf(&mut heard).await.is_ok_and(|read| read > 0)
            {}
            socket.write_all(b"PONG\r\n").await.ok();
        }
    });
    format!("nats://{address}")
}

#[tokio::test]
async fn an_old_server_is_refused() {
    let url = impostor("2.9.10").await;
    let refused = NatsBus::connect(NatsConfig::new(url, "test", streams())).await.err().expect("too old");
    let words = refused.to_string();
    assert!(words.contains("2.9.10") && words.contains("2.12.12"), "{words}");
    assert!(matches!(refused, ConnectError::ServerTooOld { .. }) && !refused.is_transient(), "{refused:?}");
}

#[tokio::test]
async fn an_absent_or_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://u:secret@{}", listener.local_addr().expect("bound"));
    let limits = Limits { connect: Duration::from_millis(300), ..limits() };
    let config = NatsConfig { limits, ..NatsConfig::new(url, "test", streams()) };
    let silent = soon("an error", NatsBus::connect(config.clone())).await.err().expect("silent");
    assert!(matches!(silent, ConnectError::Timeout { .. }) && silent.is_transient(), "{silent:?}");
    drop(listener);
    let absent = soon("an error", NatsBus::connect(config.clone())).await.err().expect("absent");
    assert!(matches!(absent, ConnectError::Unreachable { .. }) && absent.is_transient(), "{absent:?}");
    assert!(!format!("{absent} {absent:?} {config:?}").contains("secret"));
    let malformed = NatsBus::connect(NatsConfig { urls: vec!["::".to_owned()], ..config }).await;
    assert!(matches!(malformed.err(), Some(ConnectError::Address { number: 1, .. })));
}

#[tokio::test]
async fn a_server_takes_the_right_nkey_and_refuses_others() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let written = |name: &str, seed: u8| {
        let (path, key) = (dir.path().join(name), crate::UserKey::from_random(&[seed; 32]));
        std::fs::write(&path, format!("{}\n", key.seed().as_str())).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("changed");
        (path, key.public())
    };
    let ((right, public), (wrong, _)) = (written("right.nk", 1), written("wrong.nk", 2));
    let text = format!("authorization {{ users: [ {{ nkey: {public} }} ] }}\n");
    let Some(server) = TestServer::start_with(&text).await else { return };
    let with = |path: &std::path::Path| config(&server).with_files(path, "".as_ref(), "agents");
    let bus = NatsBus::connect(with(&right).expect("a key")).await.expect("let in");
    assert!(bus.link().borrow().connected);
    let refused = NatsBus::connect(with(&wrong).expect("a key")).await.err().expect("kept out");
    assert!(matches!(refused, ConnectError::Refused { .. }) && !refused.is_transient(), "{refused:?}");
    let anonymous = NatsBus::connect(config(&server)).await.err().expect("kept out");
    assert!(matches!(anonymous, ConnectError::Refused { .. }), "{anonymous:?}");
}

#[test]
fn a_ca_file_that_is_none_is_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, "no certificate").expect("written");
    let with = |ca: &std::path::Path| {
        NatsConfig::new("tls://127.0.0.1:1", "test", streams()).with_files("".as_ref(), ca, "agents")
    };
    let error = with(&ca).expect_err("no certificate");
    assert!(error.is_configuration() && error.to_string().contains("ca.pem"), "{error}");
    assert!(matches!(with(&dir.path().join("none.pem")), Err(ConnectError::Ca { .. })));
}
