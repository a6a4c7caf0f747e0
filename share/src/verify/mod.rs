//! Verification: whether a share still holds what its log promises, object by object, without keys or with them.
//!
//! ```text
//! FORMAT, log ─▶ commit ─▶ manifest ─▶ receipts ─▶ pack lists, index, chunk index, packs     presence, length, hash
//!                                                        └─ with recovery keys ─▶ contents   opened, named, compared
//! ```
//!
//! Never stops at the first damage, never changes anything on the share, and believes nothing that the chain from the
//! root key does not name. The steps of the chain ([`chain`], [`content`]) serve recovery, too.

mod again;
pub mod chain;
pub mod content;
mod damage;
mod hurt;
mod ledger;
mod pace;
mod quick;
mod report;
mod run;
mod select;

pub use again::{Again, read_again};
pub use damage::{Damage, Fault, Trouble, read_object};
pub(crate) use damage::{fetch, sort};
pub use hurt::hurt;
pub use ledger::{Ledger, LedgerError, read_ledger};
pub use pace::Pace;
pub use quick::newest_intact;
pub use report::{Damaged, Report, RoundReport, ServiceReport};
pub use run::{Progress, VerifyError, verify};
pub use select::{RoundSelector, SelectError};
