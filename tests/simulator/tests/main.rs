//! The seeds of the gate, and the bugs that they must find.

#[cfg(feature = "planted")]
mod planted;
#[cfg(not(feature = "planted"))]
mod scale;
#[cfg(not(feature = "planted"))]
mod seeds;
