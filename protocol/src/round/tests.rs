//! The effects of the round machine, event by event.
