//! The commands, one file each. Each takes its arguments and returns an exit code or one clear failure.

pub(crate) mod adopt;
pub(crate) mod agents;
pub(crate) mod alerts;
pub(crate) mod cancel;
pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod demo;
pub(crate) mod dump;
pub(crate) mod enroll;
pub(crate) mod find;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod once;
pub(crate) mod rebuild;
pub(crate) mod recover;
pub(crate) mod restore;
pub(crate) mod revoke;
pub(crate) mod rounds;
pub(crate) mod share;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod watch;
