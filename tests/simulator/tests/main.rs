//! The seeds of the gate.

mod seeds;
