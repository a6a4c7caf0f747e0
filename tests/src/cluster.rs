//! Three real nats-server processes as one cluster, with the accounts, nkeys and TLS of a fleet's folder.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::nats::NatsServer;
use crate::process::wait_for;

/// How many servers: the fewest of which one may die.
const SERVERS: usize = 3;

/// A cluster; gone with its handle.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    name: String,
    /// Where it tells about itself.
    monitor: u16,
    server: NatsServer,
}

impl NatsCluster {
    /// Starts a cluster from the server configuration of the fleet's folder, and makes everything of the
    /// fleet that is started from here on use it, with copies of the streams on all servers.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(fleet: &mut Fleet) -> Self {
        let template =
            std::fs::read_to_string(fleet.dir().join("nats-server.conf")).expect("a configuration");
        let ports = free_ports();
        let routes = ports.map(|[_, route, _]| format!("\"nats://127.0.0.1:{route}\""));
        let mut nodes = Vec::new();
        for (number, [client, route, monitor]) in ports.into_iter().enumerate() {
            let name = format!("node-{number}");
            let mut text = format!(
                "http: \"127.0.0.1:{monitor}\"\n\
                 cluster {{ name: \"test\", listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
                routes.join(", ")
            );
            for line in template.lines() {
                let line = match line.trim_start().split_once(':').map(|(key, _)| key) {
                    Some("server_name") => format!("server_name: \"{name}\""),
                    Some("listen") => format!("listen: \"127.0.0.1:{client}\""),
                    Some("store_dir") => format!("store_dir: \"state/{name}\""),
                    Some(_) | None => line.to_owned(),
                };
                text.push_str(&line);
                text.push('\n');
            }
            let config = fleet.dir().join(format!("{name}.conf"));
            std::fs::write(&config, text).expect("written");
            let server = NatsServer::start(&config, client, &fleet.path(&format!("{name}.log")));
            nodes.push(Node { name, monitor, server });
        }
        let urls = ports.map(|[client, ..]| format!("tls://127.0.0.1:{client}"));
        fleet.set("MUSTER_NATS_URL", &urls.join(","));
        fleet.set("MUSTER_STREAMS_REPLICAS", &SERVERS.to_string());
        let cluster = Self { nodes };
        wait_for("the cluster has a leader", || cluster.meta_leader());
        cluster
    }

    /// Waits until the stream whose name ends so has a leader and all its copies are current; the leader's
    /// place.
    #[must_use]
    pub fn stream_leader(&self, suffix: &str) -> usize {
        wait_for(&format!("the stream …{suffix} has a leader and {SERVERS} copies"), || {
            // Only the leader itself knows how far the others are.
            let own = |node: &Node| node.stream(suffix).filter(|cluster| cluster["leader"] == *node.name);
            let cluster = self.nodes.iter().find_map(own)?;
            let copies = cluster["replicas"].as_array()?;
            let current = copies.iter().filter(|copy| copy["current"] == true).count();
            (current + 1 == SERVERS).then(|| self.place(&cluster["leader"])).flatten()
        })
    }

    /// Waits until the stream whose name ends so has a leader other than the server at this place.
    #[must_use]
    pub fn next_leader(&self, suffix: &str, former: usize) -> usize {
        wait_for(&format!("the stream …{suffix} has another leader"), || {
            let clusters = self.nodes.iter().filter_map(|node| node.stream(suffix));
            clusters.filter_map(|cluster| self.place(&cluster["leader"])).find(|leader| *leader != former)
        })
    }

    /// Ends the server at this place as a crash would.
    pub fn kill(&mut self, place: usize) {
        self.nodes[place].server.kill();
    }

    /// Starts it again.
    pub fn restart(&mut self, place: usize) {
        self.nodes[place].server.restart();
    }

    fn place(&self, name: &Value) -> Option<usize> {
        let name = name.as_str()?;
        self.nodes.iter().position(|node| node.name == name)
    }

    fn meta_leader(&self) -> Option<()> {
        let mut told = self.nodes.iter().filter_map(|node| node.ask("/jsz"));
        told.any(|answer| answer["meta_cluster"]["leader"].as_str().is_some_and(|l| !l.is_empty()))
            .then_some(())
    }
}

impl Node {
    /// What this server knows of the copies of a stream.
    fn stream(&self, suffix: &str) -> Option<Value> {
        let answer = self.ask("/jsz?accounts=true&streams=true")?;
        let accounts = answer["account_details"].as_array()?;
        let mut streams = accounts.iter().filter_map(|account| account["stream_detail"].as_array()).flatten();
        let stream =
            streams.find(|stream| stream["name"].as_str().is_some_and(|name| name.ends_with(suffix)))?;
        Some(stream["cluster"].clone())
    }

    /// One question to its monitoring endpoint; none while it is gone.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // HTTP/1.0, so that the answer ends with the connection and comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }
}

/// For each server three ports that are free now: for clients, for the other servers, for monitoring.
fn free_ports() -> [[u16; 3]; SERVERS] {
    // All at once, so that none comes twice.
    let listeners =
        [(); SERVERS].map(|()| [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port")));
    listeners.map(|three| three.map(|listener| listener.local_addr().expect("an address").port()))
}
