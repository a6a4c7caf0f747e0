//! The scrub: every stored object is read again within a time that the operators promise, whether a round needed it or not.
//!
//! A pass goes through all services by name and through the objects of each by id; a record of the log now and then says how
//! far it is ([`Scrub`](crate::log::Scrub)), so that another leader, or the same one after a restart, goes on from there. It is
//! spread evenly over its time ([`wait`]), so that the share never has to bear more than it must.
//!
//! ```text
//! newest slices ──Course──▶ where an object lies in the pass ──wait──▶ when it is due
//! ```
//!
//! Objects that are not what they should be go into quarantine ([`Quarantine`](crate::log::Quarantine)): from then on nothing is
//! committed that names them, and the next slice uploads what they held again.

mod course;
mod terms;

pub use course::{Course, wait};
pub use terms::Terms;
