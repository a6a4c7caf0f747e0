//! Connections that look alive and carry nothing are noticed within 15 s, by agents and coordinators, and made anew.

use std::time::Duration;

use muster_bus::{Bus, Headers, NatsBus, NatsConfig, Streams};
use muster_tests::nats::NatsServer;
use muster_tests::proxy::{Mode, Proxy};
use tokio::time::timeout;

/// What is promised.
const PROMISED: Duration = Duration::from_secs(15);
/// For what must happen at some time.
const LONG: Duration = Duration::from_secs(60);

struct Scene {
    _folder: tempfile::TempDir,
    server: NatsServer,
    proxy: Proxy,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let config = folder.path().join("nats.conf");
        std::fs::write(&config, format!("listen: \"127.0.0.1:{port}\"\n")).expect("written");
        let server = NatsServer::start(&config, port, &folder.path().join("nats.log"));
        let proxy = Proxy::to(server.port);
        Self { _folder: folder, server, proxy }
    }

    fn config(&self, port: u16) -> NatsConfig {
        let streams = Streams::new("test", "muster.v1.test.state", "muster.v1.test.trigger.async");
        NatsConfig::new(format!("nats://127.0.0.1:{port}"), "test", streams.expect("valid"))
    }

    /// Something that is said to the listeners again and again, past the proxy.
    async fn chatter(&self) -> tokio::task::JoinHandle<()> {
        let bus = NatsBus::connect(self.config(self.server.port)).await.expect("connects");
        tokio::spawn(async move {
            loop {
                bus.publish("chatter", Headers::new(), "news".into()).await.expect("sent");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }

    async fn notices(&self, bus: NatsBus, stalled: Mode) {
        let mut link = bus.link();
        assert!(link.borrow_and_update().connected);
        self.proxy.set(stalled);
        let lost = timeout(PROMISED, link.wait_for(|link| !link.connected)).await.is_ok();
        assert!(lost, "{stalled:?} was not noticed within {PROMISED:?}");
        self.proxy.set(Mode::Pass);
        let back = timeout(LONG, link.wait_for(|link| link.connected)).await.expect("it comes back");
        assert!(back.expect("news").connects > 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_notices_a_connection_that_is_silent() {
    let scene = Scene::new();
    let bus = NatsBus::connect(scene.config(scene.proxy.port)).await.expect("connects");
    scene.notices(bus, Mode::SILENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_notices_that_it_is_not_heard_although_it_hears_everything() {
    let scene = Scene::new();
    let bus = NatsBus::connect(scene.config(scene.proxy.port).with_echo()).await.expect("connects");
    let mut heard = bus.subscribe("chatter", None).await.expect("subscribes");
    let chatter = scene.chatter().await;
    timeout(LONG, heard.next()).await.expect("it hears").expect("news");
    scene.notices(bus, Mode::Stall { to_server: true, to_client: false }).await;
    chatter.abort();
}
