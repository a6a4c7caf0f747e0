//! The seeds of the gate, and the bugs that they must find.
#![allow(clippy::print_stdout, reason = "figures of a run are read by people")]

#[cfg(feature = "planted")]
mod planted;
#[cfg(not(feature = "planted"))]
mod scale;
#[cfg(not(feature = "planted"))]
mod seeds;
