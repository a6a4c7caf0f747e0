//! Who this agent is, and how patient.

use std::time::Duration;

use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, FleetName, Nonce, ServiceName};
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::subject::{Subject, Subjects};

/// The product version that messages carry.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who this agent is.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) fleet: FleetId,
    pub(crate) service: ServiceName,
    pub(crate) signer: Signer,
    /// Random at the process's start.
    pub(crate) instance: Nonce,
    subjects: Subjects,
}

impl Identity {
    pub(crate) fn new(
        name: &FleetName,
        fleet: FleetId,
        service: ServiceName,
        signer: Signer,
        instance: Nonce,
    ) -> Self {
        Self { fleet, service, signer, instance, subjects: Subjects::new(name) }
    }

    /// The subject of what this service says: `of` is one of [`Subject`]'s constructors.
    pub(crate) fn subject(&self, of: impl FnOnce(ServiceName) -> Subject) -> String {
        self.subjects.print(&of(self.service.clone()))
    }

    /// The subject of the fleet's state document.
    pub(crate) fn state_subject(&self) -> String {
        self.subjects.print(&Subject::State)
    }
}

/// Every interval and limit of the event loop.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Between two heartbeats, before jitter.
    pub(crate) heartbeat: Duration,
    /// Between two progress messages.
    pub(crate) progress: Duration,
    /// Between two readings of the last values and of the log, when nothing happens.
    pub(crate) poll: Duration,
    /// Longest wait for a welcome.
    pub(crate) hello: Duration,
    /// Longest wait for an acknowledgement: the leader may check the receipt first.
    pub(crate) notice: Duration,
    /// Delays between hellos and notices that nobody answers.
    pub(crate) resend: Retry,
    /// Delays between readings of a log that cannot be read, or lags behind the bus.
    pub(crate) reread: Retry,
    /// How long a cancelled capture may take to end.
    pub(crate) wind_down: Duration,
}

impl Pace {
    /// The daemon's.
    pub(crate) fn with_heartbeat(heartbeat: Duration) -> Self {
        let secs = Duration::from_secs;
        let retry = |first, longest| {
            Retry::new(first, longest, Attempts::Unlimited).expect("these delays are in order")
        };
        Self {
            heartbeat,
            progress: secs(1),
            poll: secs(30),
            hello: secs(10),
            notice: secs(15),
            resend: retry(secs(1), secs(30)),
            reread: retry(secs(1), secs(30)),
            wind_down: secs(10),
        }
    }
}
