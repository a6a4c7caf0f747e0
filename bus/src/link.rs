//! What is known about the connection and the server behind it.

use std::sync::Arc;

use crate::Bus;

/// The state of the connection. Readers of the watch channel may miss short states, never a reconnect: compare
/// [`Link::connects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether the connection is up, as far as is known: a half-open one counts as up until pings fail.
    pub connected: bool,
    /// How many times a connection was made, the first included.
    pub connects: u64,
}

/// The server on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its name; `embedded` inside one process.
    pub name: String,
    /// Its version; empty inside one process.
    pub version: String,
    /// Largest payload that it takes.
    pub payload_limit_bytes: usize,
}

/// What metrics tell of a connection: whether it is up, how often it was made, messages that it dropped; nothing once nobody else has the
/// bus any more.
pub fn figures(bus: &Arc<dyn Bus>) -> impl Fn() -> Option<(bool, u64, u64)> + Send + Sync + Clone + use<> {
    let bus = Arc::downgrade(bus);
    move || {
        let bus = bus.upgrade()?;
        let link = *bus.link().borrow();
        Some((link.connected, link.connects, bus.dropped_messages()))
    }
}
