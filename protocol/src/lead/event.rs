//! What a lead machine is told, and what it wants done.

use crate::lead::lease::{Lease, LeaseSeen};
use crate::lead::view::LogView;
use crate::time::Time;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The log was read to its head.
    LogRead {
        /// When the reading began: what it says was true then, not now.
        asked: Time,
        /// What it says.
        log: LogView,
    },
    /// The log could not be read; waiting may mend it.
    LogUnread,
    /// The log contradicts itself or what was seen before: a fork, a gap, a head that went back (SHARE-08).
    LogBroken {
        /// What is wrong, for people.
        reason: String,
    },
    /// The lease was read; none: there is no lease.
    LeaseRead {
        /// The lease.
        seen: Option<LeaseSeen>,
    },
    /// The lease that [`Effect::WriteLease`] asked for is stored.
    LeaseWritten {
        /// When the writing began.
        asked: Time,
        /// The new revision.
        revision: u64,
    },
    /// Somebody else has written the lease in between.
    LeaseLost,
    /// The lease could be neither read nor written: the bus is away.
    LeaseUnknown,
    /// The connection to the bus was made anew: what was known of the lease may be old.
    Reconnected,
    /// The `epoch` record is in the log.
    EpochAppended,
    /// Another record came first.
    EpochLost,
    /// The share did not take the record. It may be there none the less.
    EpochFailed,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read the log on to its head; report [`Event::LogRead`], [`Event::LogUnread`] or [`Event::LogBroken`].
    ReadLog,
    /// Read the lease; report [`Event::LeaseRead`] or [`Event::LeaseUnknown`].
    ReadLease,
    /// Write the lease if its revision is still this one (none: if there is none); report [`Event::LeaseWritten`],
    /// [`Event::LeaseLost`] or [`Event::LeaseUnknown`]. Never waits for the share.
    WriteLease {
        /// The revision to replace.
        expected: Option<u64>,
        /// The new value.
        lease: Lease,
    },
    /// Append this `epoch` record in the slot after what was read last; report [`Event::EpochAppended`],
    /// [`Event::EpochLost`], [`Event::EpochFailed`] or [`Event::LogBroken`].
    AppendEpoch {
        /// The epoch.
        epoch: u64,
    },
    /// This coordinator leads from here on.
    Lead {
        /// Its epoch.
        epoch: u64,
    },
    /// It leads no longer: nothing more may be written or published under its epoch.
    StepDown {
        /// The epoch that is in force now.
        epoch: u64,
    },
    /// It neither leads nor follows any more, until an operator has looked.
    Stop(Stop),
}

/// Why a machine stops for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The log cannot be believed (SHARE-08).
    Broken {
        /// What is wrong, for people.
        reason: String,
    },
    /// This coordinator's key counts no longer (KEY-03).
    Revoked,
}

/// Why a machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The log is read on: records of others come in from the side.
    Look,
    /// The lease is looked at, or written again.
    Lease,
    /// The lease has been free for long enough to be claimed.
    Claim,
}
