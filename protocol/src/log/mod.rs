//! The log: the one append-only, signed, hash-chained truth about the fleet (DESIGN section 6).
//!
//! Here are the records and the rules of replay, pure; reading and creating slots is the share's business. Two readers
//! of the same slots always come to the same [`State`].
//!
//! ```text
//! slot bytes ──verify──▶ Record ──links to the last valid one?──▶ may its signer say this? ──▶ State
//!                │                        │                             │
//!                └─ void: skipped         └─ void, or a fork: stop       └─ a link without effect
//! ```

mod body;
#[cfg(test)]
pub(crate) mod fixture;
mod member;
mod record;
mod replay;
mod state;
#[cfg(test)]
mod tests;

pub use body::{
    Accept, Adopt, Audit, Body, Commit, Config, CutTerms, Drill, DrillOutcome, End, EndAccount, Epoch, Found,
    Genesis, Hold, Keyset, KeysetKey, MAX_QUARANTINE_OBJECTS, OnBreak, Open, Outcome, Prune, Pruned,
    Quarantine, Reached, Roster, Scope, Scrub, Sealing, Sweep, Verified,
};
pub use member::{Change, Member, Role};
pub use record::{
    GENESIS_HEAD, Head, MAX_RECORD_LEN, Record, RecordError, Seen, Statement, parse, parse_known, seal,
    seal_statement, seal_with_statement,
};
pub use replay::{Effect, ReplayError};
pub use state::{
    Drilled, EpochState, HoldState, MAX_OPEN_ROUNDS, MAX_QUARANTINED, MemberState, Pin, Quarantined, Resumed,
    RoundPhase, RoundState, ScrubPass, ScrubState, State,
};
