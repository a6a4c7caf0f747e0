//! What anybody with a key of the bus can send, and a client of NATS cannot read: it costs a reconnect, and nothing else.

use crate::{Bus, Headers, Limits, NatsBus, NatsConfig, Streams, test_server::TestServer};
use bytes::Bytes;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const STATE: &str = "muster.v1.test.state";
const QUEUE: &str = "muster.v1.test.trigger.async";
const LONG: Duration = Duration::from_secs(20);

/// Headers that no client should have sent. A carriage return ends the client's task, the others its connection.
const HEADERS: [&[u8]; 6] = [
    b"NATS/1.0\r\nname: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nname: a\rb\r\n\r\n",
    b"NATS/1.0\r\nname\r\n\r\n",
    b"NATS/1.0\r\nna me: a\r\n\r\n",
    b"NATS/1.0 what\r\n\r\n",
    b"noise",
];

/// Publishes as it stands, without a client.
async fn send(server: &TestServer, subject: &str, header: &[u8]) {
    let address = server.url().replace("nats://", "");
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
    let line = format!("HPUB {subject} {0} {0}\r\n", header.len());
    let all = [hello.as_bytes(), line.as_bytes(), header, b"\r\nPING\r\n"].concat();
    socket.write_all(&all).await.expect("the server takes it");
    let mut heard = Vec::new();
    while !heard.windows(6).any(|part| part == b"PONG\r\n") {
        let mut part = [0; 4096];
        let length = timeout(LONG, socket.read(&mut part)).await.expect("in time").expect("readable");
        assert!(length > 0, "refused: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&part[..length]);
    }
}

async fn connected(server: &TestServer) -> NatsBus {
    let limits = Limits {
        ack_wait: Duration::from_secs(1),
        reconnect_first: Duration::from_millis(20),
        reconnect_longest: Duration::from_millis(100),
        ..Limits::default()
    };
    let streams = Streams::new("test", STATE, QUEUE).expect("valid");
    let config = NatsConfig { limits, ..NatsConfig::new(server.url(), "test", streams) };
    NatsBus::connect(config).await.expect("connects")
}

#[tokio::test]
async fn a_message_that_cannot_be_read_costs_a_reconnect_and_nothing_else() {
    let Some(server) = TestServer::start().await else { return };
    let (bus, other) = (connected(&server).await, connected(&server).await);
    bus.ensure().await.expect("streams");
    let mut plain = bus.subscribe("heard", None).await.expect("listens");
    let mut shared = bus.subscribe("heard", Some("group")).await.expect("listens");
    let mut values = bus.watch_last_value(STATE).await.expect("watches");
    // The server has heard of the subscriptions once it has answered what came behind them.
    bus.set_last_value(STATE, Bytes::from("ready")).await.expect("acknowledged");
    assert_eq!(timeout(LONG, values.next()).await.expect("in time"), Some(Bytes::from("ready")));
    let mut link = bus.link();
    for (number, header) in HEADERS.into_iter().enumerate() {
        let before = bus.link().borrow().connects;
        send(&server, "heard", header).await;
        let back = link.wait_for(|link| link.connected && link.connects > before);
        timeout(LONG, back).await.unwrap_or_else(|_| panic!("{header:?}: no new connection")).expect("news");
        // What was there before is there again: subscriptions, answers, stored values.
        let word = Bytes::from(number.to_string());
        bus.set_last_value(STATE, word.clone()).await.expect("acknowledged");
        assert_eq!(timeout(LONG, values.next()).await.expect("in time"), Some(word.clone()));
        other.publish("heard", Headers::new(), word.clone()).await.expect("sent");
        for subscription in [&mut plain, &mut shared] {
            let heard =
                timeout(LONG, subscription.next()).await.unwrap_or_else(|_| panic!("after {header:?}"));
            assert_eq!(heard.expect("not over").payload, word, "after {header:?}");
        }
        assert_eq!(bus.last_value(STATE).await.expect("readable"), Some(word));
    }
    bus.close().await.expect("closes");
    assert!(timeout(LONG, plain.next()).await.expect("in time").is_none(), "over with the bus");
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_taken_out_of_the_queue() {
    let Some(server) = TestServer::start().await else { return };
    let bus = connected(&server).await;
    let mut queue = bus.queue(QUEUE).await.expect("opens");
    bus.enqueue(QUEUE, Headers::new(), Bytes::from("first")).await.expect("stored");
    // The queue has been looked through by now.
    let first = queue.next(LONG).await.expect("readable").expect("a job");
    assert_eq!(first.payload, "first");
    first.ack().await.expect("done");
    // A status is a server's word, and is not stored.
    for header in HEADERS.into_iter().filter(|header| !header.starts_with(b"NATS/1.0 ")) {
        send(&server, QUEUE, header).await;
    }
    bus.enqueue(QUEUE, Headers::new(), Bytes::from("last")).await.expect("stored");
    let last = timeout(LONG, async {
        loop {
            if let Ok(Some(job)) = queue.next(Duration::from_secs(1)).await {
                break job;
            }
        }
    });
    let last = last.await.expect("a job behind those that cannot be read");
    assert_eq!(last.payload, "last", "{last:?}");
    last.ack().await.expect("done");
    // One was given out before anybody looked; the others were never.
    let connects = bus.link().borrow().connects;
    assert!((2..=3).contains(&connects), "{connects} connections");
    assert!(
        queue.next(Duration::from_millis(1500)).await.expect("readable").is_none(),
        "nothing comes again"
    );
    assert_eq!(bus.link().borrow().connects, connects);
}
