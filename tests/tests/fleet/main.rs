//! The main job end to end, each part real, with the faults that a fleet meets. Invariants are named by their numbers
//! in the fault list.

mod adoption;
mod alerts;
mod bad_input;
mod bench;
mod bus_users;
mod canary;
mod credentials;
mod damage;
mod emergency;
mod faults;
mod full;
mod golden;
mod half_open;
mod hold;
mod hostile;
mod hostile_messages;
mod leaders;
mod look;
mod matrix;
mod properties;
mod prune;
mod rebuild;
mod restore;
mod resume;
mod roster;
mod rotation;
mod round_trip;
mod rounds;
mod secured;
mod shares;
mod stock_tools;
mod swarm;
mod thefts;
mod threats;
mod triggers;
