//! What a round machine is told, and what it wants done.

use crate::alert::Code;
use crate::document::{Absentee, CutAccount, ManifestSlice};
use crate::ids::{Nonce, ObjectId, ServiceName};
use crate::log::Outcome;
use crate::message::{Stage, Verdict};

/// Why an attempt gave no slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The alert code.
    pub code: Code,
    /// The native error, for people.
    pub reason: String,
    /// True when another attempt would fail as well.
    pub permanent: bool,
}

/// What a check of a receipt found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckFailure {
    /// The slice does not count; the agent must make another.
    Refused(Failure),
    /// The share did not answer; the check is made again.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The `open` record is in the log.
    Opened,
    /// A valid hello of the service's agent.
    Hello {
        /// Whose.
        service: ServiceName,
        /// For which attempt.
        attempt: u32,
    },
    /// The service's agent is at work for this round: progress, or a heartbeat that names the round. One that does not
    /// is no sign of work, or an agent that never got its welcome would be waited for until the deadline.
    Seen {
        /// Whose.
        service: ServiceName,
    },
    /// The service's agent says what it is at.
    AtWork {
        /// Whose.
        service: ServiceName,
        /// Holding, capturing or uploading.
        stage: Stage,
    },
    /// The agent says that its service is quiesced and waits for the cut.
    Quiesced {
        /// Whose.
        service: ServiceName,
        /// Which attempt.
        attempt: u32,
    },
    /// The agent says that its service was still held when everything was read.
    Snapped {
        /// Whose.
        service: ServiceName,
        /// Which attempt.
        attempt: u32,
        /// The announcement's nonce.
        nonce: Nonce,
    },
    /// The agent says that its receipt is on the share, or a resumed round found it there.
    Stored {
        /// Whose.
        service: ServiceName,
        /// Which attempt.
        attempt: u32,
        /// The receipt.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
    },
    /// The agent says that the attempt failed.
    Failed {
        /// Whose.
        service: ServiceName,
        /// Which attempt.
        attempt: u32,
        /// Why.
        failure: Failure,
    },
    /// The check that [`Effect::Check`] asked for is done.
    Checked {
        /// Whose.
        service: ServiceName,
        /// The receipt.
        receipt: ObjectId,
        /// What it found. The slice's `attempts`, `timing` and `tries` are filled in by the machine.
        result: Result<Box<ManifestSlice>, CheckFailure>,
    },
    /// The manifest is on the share.
    ManifestWritten {
        /// Its hash.
        manifest: ObjectId,
        /// Its length in bytes.
        manifest_size: u64,
    },
    /// The `commit` record is in the log.
    Committed,
    /// Every new object was read again and hashed.
    Reread {
        /// Objects read.
        objects: u64,
        /// Bytes read.
        bytes: u64,
    },
    /// Reading again found damage: the round stays committed and unverified.
    RereadFailed {
        /// What.
        reason: String,
    },
    /// The `verified` record is in the log.
    VerifiedAppended,
    /// The `end` record is in the log.
    EndAppended,
    /// The effect that the machine waits for could not be carried out; it is asked for again.
    StageFailed {
        /// Why.
        reason: String,
    },
    /// The agent that the service had counts no longer, by a record of the log: it was revoked, or another has taken its
    /// place. What it gave to this round does not count either, unless the round is committed already.
    Disowned {
        /// Whose.
        service: ServiceName,
        /// Why; permanent when the service has no agent now.
        failure: Failure,
    },
    /// An operator cancels.
    Cancel {
        /// Why.
        reason: String,
    },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append the `open` record, then report [`Event::Opened`].
    AppendOpen,
    /// Publish the state document: the set of open rounds has changed.
    Publish,
    /// Look for receipts of this round on the share and report each as [`Event::Stored`].
    FindReceipts,
    /// Publish a retry order.
    PublishRetry {
        /// For whom.
        service: ServiceName,
        /// The attempt that is wanted.
        attempt: u32,
    },
    /// Answer the service's hello.
    Welcome {
        /// Whose.
        service: ServiceName,
        /// The attempt it may make; none: it is not wanted.
        attempt: Option<u32>,
    },
    /// Read and check a receipt and everything that it names, then report [`Event::Checked`].
    Check {
        /// Whose.
        service: ServiceName,
        /// The receipt.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// The attempt it must be for.
        attempt: u32,
    },
    /// Answer the service's notice.
    Acknowledge {
        /// Whose.
        service: ServiceName,
        /// The attempt.
        attempt: u32,
        /// The receipt that was noticed.
        receipt: Option<ObjectId>,
        /// What became of it.
        verdict: Verdict,
    },
    /// Write the manifest, then report [`Event::ManifestWritten`].
    WriteManifest {
        /// Complete or partial.
        outcome: Outcome,
        /// Slices, sorted by service.
        slices: Vec<ManifestSlice>,
        /// Services without one, sorted.
        absent: Vec<Absentee>,
        /// What became of the cut, if there was to be one.
        cut: Option<CutAccount>,
    },
    /// Append the `commit` record, then report [`Event::Committed`].
    AppendCommit {
        /// Complete or partial.
        outcome: Outcome,
        /// The manifest.
        manifest: ObjectId,
        /// Its length in bytes.
        manifest_size: u64,
    },
    /// Read the new objects of these slices again, cold, and hash them; then report [`Event::Reread`].
    Reread {
        /// The slices.
        slices: Vec<ManifestSlice>,
    },
    /// Append the `verified` record, then report [`Event::VerifiedAppended`].
    AppendVerified {
        /// Objects read.
        objects: u64,
        /// Bytes read.
        bytes: u64,
    },
    /// Append the `end` record, then report [`Event::EndAppended`]. The account may go to the share before it, and is never
    /// waited for twice.
    AppendEnd {
        /// Failed, cancelled or skipped.
        outcome: Outcome,
        /// Why.
        reason: String,
        /// Slices that were whole when the round ended, sorted by service.
        slices: Vec<ManifestSlice>,
        /// Everybody else, sorted by service.
        absent: Vec<Absentee>,
        /// What became of the cut, if there was to be one.
        cut: Option<CutAccount>,
    },
    /// Nothing more will come.
    Finished,
}

/// Why a machine wants to be woken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The service has not said hello in time.
    Recruit(ServiceName),
    /// The service's agent has been silent for too long.
    Silence(ServiceName),
    /// The service's back-off is over.
    Backoff(ServiceName),
    /// A check is made again.
    Recheck(ServiceName),
    /// The service's own deadline.
    Service(ServiceName),
    /// The capture is announced, whoever holds by now.
    Barrier,
    /// The next tier begins, whatever the ones before it are at.
    Tier,
    /// A stage is tried again.
    Stage,
    /// The round's own deadline.
    Round,
}
