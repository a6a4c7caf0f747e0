//! What a slice machine is told, and what it wants done.

use crate::alert::Code;
use crate::document::SliceTotals;
use crate::ids::{Nonce, ObjectId, RoundId};
use crate::message::{CutOrder, Verdict};

/// What the agent tells the leader about the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The service is quiesced and waits.
    Quiesced,
    /// Everything was read while it was still held.
    Snapped {
        /// The announcement's nonce.
        nonce: Nonce,
    },
}

/// What an agent reports of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The receipt is on the share.
    Stored {
        /// Its hash.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// Its totals.
        totals: SliceTotals,
    },
    /// There is no slice.
    Failed {
        /// The reason's code.
        code: Code,
        /// The native error.
        reason: String,
        /// True when another attempt would fail as well.
        permanent: bool,
    },
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A believed state document asks this service for a slice. Without a retry order the attempt is 1.
    Order {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt that is wanted at least.
        attempt: u32,
        /// Grows whenever further services may begin.
        turn: u32,
        /// What the cut asks for.
        cut: Option<CutOrder>,
    },
    /// A believed state document asks this service for nothing.
    NoOrder,
    /// The hello was answered.
    Welcomed {
        /// The round.
        round: RoundId,
        /// The attempt; none: nothing is wanted.
        attempt: Option<u32>,
    },
    /// Nobody answered the hello in time.
    HelloUnanswered,
    /// The watchdog is armed and the service is quiesced.
    Quiesced {
        /// The round.
        round: RoundId,
    },
    /// It could not be quiesced; whatever was, is released.
    QuiesceFailed {
        /// The round.
        round: RoundId,
        /// The reason's code.
        code: Code,
        /// The native error.
        reason: String,
        /// True when another attempt would fail as well.
        permanent: bool,
    },
    /// The watchdog has released the service, or is about to: its time is over.
    HoldLost {
        /// The round.
        round: RoundId,
    },
    /// The leader has taken note of the standing.
    StandingNoted {
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
    },
    /// The leader did not answer the standing in time.
    StandingUnanswered,
    /// Every source is read: nothing more of the service is needed.
    Read {
        /// The round.
        round: RoundId,
    },
    /// Everything is captured and uploaded but for the receipt.
    Captured {
        /// The round.
        round: RoundId,
    },
    /// The capture failed, or its receipt could not be written.
    CaptureFailed {
        /// The round.
        round: RoundId,
        /// The reason's code.
        code: Code,
        /// The native error.
        reason: String,
        /// True when another attempt would fail as well.
        permanent: bool,
    },
    /// The receipt is on the share.
    ReceiptWritten {
        /// The round.
        round: RoundId,
        /// The attempt it is for.
        attempt: u32,
        /// Its hash.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// Its totals.
        totals: SliceTotals,
    },
    /// The notice was answered.
    Acknowledged {
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
        /// What became of it.
        verdict: Verdict,
    },
    /// Nobody answered the notice in time.
    NoticeUnanswered,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say hello, then report [`Event::Welcomed`] or [`Event::HelloUnanswered`].
    Hello {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
    },
    /// Arm the watchdog, then quiesce the service; then report [`Event::Quiesced`] or [`Event::QuiesceFailed`], and
    /// [`Event::HoldLost`] when its time is over before [`Effect::Release`].
    Quiesce {
        /// The round.
        round: RoundId,
    },
    /// Release the service, also one that is only being quiesced.
    Release {
        /// The round.
        round: RoundId,
    },
    /// Tell the leader about the cut, then report [`Event::StandingNoted`] or [`Event::StandingUnanswered`].
    Tell {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
        /// What.
        standing: Standing,
    },
    /// Capture the sources, upload the packs; report [`Event::Read`] once every source is read, then
    /// [`Event::Captured`] or [`Event::CaptureFailed`].
    Capture {
        /// The round.
        round: RoundId,
    },
    /// Write the receipt of what was captured, for this attempt.
    WriteReceipt {
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
        /// The nonce of the cut that it was captured in.
        cut: Option<Nonce>,
    },
    /// Tell the leader, then report [`Event::Acknowledged`] or [`Event::NoticeUnanswered`].
    Notice {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
        /// What.
        reported: Reported,
    },
    /// Stop whatever is being done for this round, and forget what was captured.
    Drop {
        /// The round.
        round: RoundId,
    },
    /// The slice counts: remember its receipt as the service's last.
    Keep {
        /// The round.
        round: RoundId,
        /// The receipt.
        receipt: ObjectId,
    },
}

/// Why a machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The hello is said again.
    Hello,
    /// The notice is sent again.
    Notice,
    /// The standing is told again.
    Standing,
}
