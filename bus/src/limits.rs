//! Every bound of the bus in one place: sizes, counts and waits.

use std::time::Duration;

/// The bounds. `Limits::default()` suits a coordinator; agents may lower the buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload that is sent. Messages are at most 4 KiB by design; the margin is for people's JSON.
    pub payload_bytes: usize,
    /// Messages that one subscription buffers before it drops.
    pub subscription_messages: usize,
    /// Longest wait for a connection, the handshake included.
    pub connect: Duration,
    /// Longest wait for the server's own answers: acknowledgements, stored values, stream administration.
    pub answer: Duration,
    /// Idle time after which the connection is probed; a half-open one is noticed after three of these, and one more for
    /// each message that comes in meanwhile.
    pub ping_interval: Duration,
    /// Longest that an echo may take ([`crate::NatsConfig::with_echo`]); as long again lies between two.
    pub echo: Duration,
    /// First delay of a reconnect; later ones double.
    pub reconnect_first: Duration,
    /// Longest delay between two reconnects.
    pub reconnect_longest: Duration,
    /// How long a job may stay unsettled before it is given to somebody else.
    pub ack_wait: Duration,
    /// How long a job's `Nats-Msg-Id` is remembered.
    pub duplicate_window: Duration,
    /// How long an unclaimed job is kept.
    pub job_age: Duration,
    /// Most jobs in the queue; further ones are refused.
    pub queued_jobs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 16 * 1024,
            subscription_messages: 65_536,
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            ping_interval: Duration::from_secs(3),
            echo: Duration::from_secs(5),
            reconnect_first: Duration::from_secs(1),
            reconnect_longest: Duration::from_secs(8),
            ack_wait: Duration::from_secs(30),
            duplicate_window: Duration::from_secs(600),
            job_age: Duration::from_secs(24 * 3600),
            queued_jobs: 1000,
        }
    }
}
