//! From arguments to what the recovery is asked for.

use std::os::unix::ffi::OsStrExt;

use muster_agent::recover::{Origin, Request};
use muster_protocol::log::{Pin, Seen};

use crate::args::Recover;
use crate::command::init::plan::share_folder;
use crate::failure::Failure;
use crate::fleet::{open_store, share_at};
use crate::kit::Kit;
use crate::reading_back::selector;

/// Packs that are opened at once at most: each takes about 12 MiB sealed, and a frame.
const WORKERS_MOST: usize = 8;

/// Reads the arguments and the kit, and opens the share.
///
/// # Errors
/// When an argument, the kit or the share cannot be used.
pub(super) async fn request(args: &Recover) -> Result<Request, Failure> {
    let head = args.expect.expect_head.map(Seen::exactly);
    let kit = Kit::open(&args.kit)?;
    let store = open_store(&share_at(&args.share)?).await?;
    Ok(Request {
        from: Origin {
            store,
            pin: Pin { root: Some(kit.root), fleet: None, head },
            keys: kit.keys,
            round: selector(&args.round),
        },
        services: args.service.clone(),
        path: args.path.as_ref().map(|path| path.as_bytes().to_vec()),
        into: args.into.clone(),
        existing: args.existing,
        resume: args.resume,
        numeric_owner: args.numeric_owner,
        apart_from: share_folder(&args.share).into_iter().chain([args.kit.clone()]).collect(),
        workers: workers(),
    })
}

/// How many packs are opened at once.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MOST)
}
