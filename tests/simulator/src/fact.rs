//! What has just come about, for the invariants to judge.

use muster_protocol::ids::{KeyId, ObjectId, RoundId};
use muster_protocol::log::{Effect, ReplayError};

use crate::happening::Party;

/// Something that came about in an event.
#[derive(Debug)]
pub(crate) enum Fact {
    /// A slot was filled.
    Appended { slot: usize, signer: KeyId, kind: &'static str, result: Result<Effect, ReplayError> },
    /// Bytes went to a name; `fresh` if nothing was there before.
    Written { id: ObjectId, fresh: bool },
    /// An object was deleted.
    Deleted { id: ObjectId },
    /// A reader of the log took this many records to be all of it.
    Read { party: Party, view: usize },
    /// Its disk was wiped.
    Forgot { party: Party },
    /// An agent tells a leader that this receipt is on the share.
    Noticed { receipt: ObjectId },
    /// This round was given back.
    Restored { round: RoundId },
    /// A message was taken twice in a row; whether the second one changed anything.
    Twice { what: String, changed: bool },
    /// A message came that must change nothing; whether it did.
    Foreign { what: String, changed: bool },
    /// A shell met what its machine promises never to ask.
    Impossible { what: String },
}
