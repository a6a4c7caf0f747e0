//! No memory image of a process that holds keys: neither written by a crash nor taken by another process of the user.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps of this process and of what it starts, and makes the kernel keep its memory from other processes
/// of the same user (`PR_SET_DUMPABLE`, prctl(2)). Called first, before any key is read.
///
/// # Errors
/// When the system refuses, as a strict filter of system calls may.
pub fn forbid() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    // The one without the other is still worth having.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(limited?)
}
