//! Signed documents on the share: what an agent says of its slice, and what a coordinator says of a round.

mod manifest;
mod receipt;

pub use manifest::{
    Absentee, CutAccount, CutOutsider, Excuse, MAX_TRIES, Manifest, ManifestSlice, Timing, Try,
};
pub use receipt::{ObjectRef, Receipt, SliceStatus, SliceTotals};
