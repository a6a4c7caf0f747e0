//! What can happen, and to whom.

use std::rc::Rc;

use muster_protocol::ids::{KeyId, ObjectId, RoundId};
use muster_protocol::log::{Commit, End, Epoch, Open, Prune, Pruned, Record, Sweep, Verified};
use muster_protocol::message::{NoticeOutcome, ServiceState, StateDocument, Verdict};
use muster_protocol::time::Time;
use muster_protocol::{lead, log::Head, round};

use crate::founding::Founding;
use crate::share::{Manifest, Receipt};

/// Whoever speaks to the bus or the share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Coordinator(usize),
    Agent(usize),
    Pruner,
    /// The bus's server.
    Bus,
}

impl Party {
    pub(crate) const COUNT: usize = 8;

    /// A number below [`Party::COUNT`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Coordinator(c) => c,
            Self::Agent(a) => 3 + a,
            Self::Pruner => 6,
            Self::Bus => 7,
        }
    }
}

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// The hand that breaks things reaches in.
    Mischief,
    /// People and schedules want something.
    Wanted(Wanted),
    /// A process starts.
    Start(Party),
    /// Something for a process in this life of its; a stopped one takes it when it goes on.
    For(Party, u32, Step),
    /// A change arrives at the share, whatever has become of who sent it.
    Arrives(Party, u32, Request),
    /// A value arrives at the bus.
    Published(Paper),
    /// A question about the lease arrives at the bus, or a new one in place of that of a revision.
    Leased { coordinator: usize, life: u32, asked: Time, write: Option<(Option<u64>, lead::Lease)> },
    /// A hold's time is over.
    Watchdog { service: usize, hold: u64 },
}

/// What people and schedules want.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// A round over these services; none: all.
    Round { request: u64, services: Option<Vec<usize>> },
    /// Space.
    Prune,
    /// The newest round back.
    Restore,
    /// A round kept, or let go.
    Hold,
}

/// What a process does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Coordinator(coordinator::Step),
    Agent(agent::Step),
    /// The pruner looks at the log and does the next thing; by its clock, or because the share has answered.
    Pruner {
        tick: bool,
    },
}

pub(crate) mod coordinator {
    use super::{Entry, ObjectId, Rc, RoundId, Said, lead, round};

    #[derive(Debug, Clone)]
    pub(crate) enum Step {
        /// A deadline of its lead machine.
        LeadWake,
        /// The bus has answered about the lease, or has not.
        Lease(lead::Event),
        /// A machine's deadline.
        Wake,
        /// A message of an agent.
        Heard(Rc<Said>),
        /// The share has answered an append.
        Appended { entry: Entry, round: Option<RoundId>, outcome: Append },
        /// A task brings something back to the desk of this epoch.
        Report { epoch: u64, round: RoundId, event: round::Event },
        /// A receipt is looked into.
        Check { epoch: u64, round: RoundId, check: Rc<Check> },
        /// Receipts of a service are looked for.
        Find { epoch: u64, round: RoundId, service: usize },
        /// New objects are read again.
        Reread { epoch: u64, round: RoundId },
        /// The manifest of a round that nobody read again is fetched.
        VerifyLater { epoch: u64, round: RoundId },
    }

    /// A check that was ordered.
    #[derive(Debug, Clone)]
    pub(crate) struct Check {
        pub(crate) service: usize,
        pub(crate) receipt: ObjectId,
        pub(crate) receipt_size: u64,
        pub(crate) attempt: u32,
        /// What was read of the log when it was ordered.
        pub(crate) view: usize,
    }

    /// How an append went.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Append {
        /// The record stands in this slot.
        Stands(usize),
        /// Another record took the slot.
        Taken,
        /// The share did not answer well; the record may stand.
        Unknown,
    }
}

pub(crate) mod agent {
    use super::{Answer, ObjectId, Paper, RoundId};

    #[derive(Debug, Clone)]
    pub(crate) enum Step {
        /// It reads log and last values, and says what it is at.
        Tick,
        /// The machine's deadline.
        Wake,
        /// A document came.
        Document(Paper),
        /// A reading of the log is over.
        Read { fetch: bool },
        /// An answer came.
        Answered(Answer),
        /// Nobody answered in time.
        Unanswered { request: u64 },
        /// The hooks have run.
        Hooked { hold: u64, fails: bool },
        /// The watchdog says that it has released the service.
        HoldOver { round: RoundId, hung: bool },
        /// Some of the capture is done.
        Captured { ticket: u64, last: bool },
        /// The share has answered to a receipt.
        Receipted { ticket: u64, round: RoundId, attempt: u32, receipt: ObjectId, there: bool },
    }
}

/// A change of the share that is under way.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// A record for the slot after `view`.
    Append {
        view: usize,
        entry: Entry,
        round: Option<RoundId>,
    },
    Manifest {
        id: ObjectId,
        epoch: u64,
        manifest: Rc<Manifest>,
    },
    Receipt {
        ticket: u64,
        id: ObjectId,
        receipt: Rc<Receipt>,
    },
    List {
        id: ObjectId,
        objects: Rc<Vec<ObjectId>>,
        entry: Entry,
    },
}

/// What is appended to the log.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Epoch(Epoch),
    Open(Open),
    Commit(Commit),
    Verified(Verified),
    End(End),
    Prune(Prune),
    Sweep(Sweep),
    Pruned(Pruned),
}

impl Entry {
    /// The record of it, for the slot `number` after `head`.
    pub(crate) fn record(&self, signer: KeyId, number: u64, head: Head) -> Record {
        let fleet = Founding::get().fleet;
        match self {
            Self::Epoch(body) => Record::unsigned(signer, fleet, number, head, body),
            Self::Open(body) => Record::unsigned(signer, fleet, number, head, body),
            Self::Commit(body) => Record::unsigned(signer, fleet, number, head, body),
            Self::Verified(body) => Record::unsigned(signer, fleet, number, head, body),
            Self::End(body) => Record::unsigned(signer, fleet, number, head, body),
            Self::Prune(body) => Record::unsigned(signer, fleet, number, head, body),
            Self::Sweep(body) => Record::unsigned(signer, fleet, number, head, body),
            Self::Pruned(body) => Record::unsigned(signer, fleet, number, head, body),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Epoch(_) => "epoch",
            Self::Open(_) => "open",
            Self::Commit(_) => "commit",
            Self::Verified(_) => "verified",
            Self::End(_) => "end",
            Self::Prune(_) => "prune",
            Self::Sweep(_) => "sweep",
            Self::Pruned(_) => "pruned",
        }
    }
}

/// A signed document on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paper {
    pub(crate) signer: KeyId,
    pub(crate) content: Rc<Content>,
}

/// What a document says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Fleet(StateDocument),
    Service(ServiceState),
}

impl Paper {
    pub(crate) fn age(&self) -> (u64, u64) {
        match self.content.as_ref() {
            Content::Fleet(document) => (document.epoch, document.revision),
            Content::Service(retry) => (retry.epoch, retry.revision),
        }
    }

    /// The number of its subject: the fleet's, or that of one service.
    pub(crate) fn subject(&self) -> usize {
        match self.content.as_ref() {
            Content::Fleet(_) => 0,
            Content::Service(retry) => 1 + Founding::get().service(&retry.service),
        }
    }
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) signer: KeyId,
    pub(crate) service: usize,
    pub(crate) epoch: u64,
    pub(crate) round: RoundId,
    pub(crate) attempt: u32,
    /// What its answer repeats.
    pub(crate) request: u64,
    pub(crate) what: Words,
}

/// The kinds of an agent's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Words {
    Hello,
    Notice(NoticeOutcome),
    /// Progress, or a heartbeat that names the round.
    Working,
}

/// What a leader answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) signer: KeyId,
    pub(crate) request: u64,
    pub(crate) epoch: u64,
    pub(crate) round: RoundId,
    pub(crate) reply: Reply,
}

/// The kinds of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Welcome { attempt: Option<u32> },
    Acknowledgement { attempt: u32, receipt: Option<ObjectId>, verdict: Verdict },
}
