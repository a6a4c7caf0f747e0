//! The effects of the slice machine, event by event.
