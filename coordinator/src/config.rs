//! The configuration of a coordinator.
