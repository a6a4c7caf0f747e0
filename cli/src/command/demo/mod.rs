//! `muster demo`: a whole fleet on this machine, from `init` to a compared recovery, by the commands that an operator
//! would give. All of it happens in one new folder of the system's temporary ones.
//!
//! ```text
//! stage (folder, running fleet) ─ script: start ▸ round ▸ change, round ▸ message, round ▸ stock tools
//!                                         ▸ damage, verify, mend ▸ delete, recover, compare
//! ```
//!
//! Must never change anything outside its folder, nor wait without a limit, nor leave a process behind.

mod compare;
mod halt;
mod operator;
mod orders;
mod packages;
mod packs;
mod round;
mod script;
mod secrets;
mod stage;
mod stock;
mod tell;

use tokio::signal::unix::{SignalKind, signal};

use crate::args::Demo;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::{nats_server, screen};
use stage::Stage;

/// Plays it. Ends with 0 only if everything that it shows was found true.
pub(crate) async fn run(args: Demo) -> Outcome {
    if args.secrets {
        return secrets::print();
    }
    // Asked again by `up`; without one, nothing need be begun.
    nats_server::find()?;
    let mut stage = Stage::set(args.keep)?;
    let played = tokio::select! {
        played = script::play(&mut stage) => played,
        interrupted = interrupted() => interrupted,
    };
    let played = match played {
        Err(failure) => Err(stage.explain(failure)),
        played => played,
    };
    let cleared = stage.clear(matches!(played, Ok(Exit::Done))).await;
    let exit = played?;
    cleared?;
    Ok(exit)
}

async fn interrupted() -> Outcome {
    let catch = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(Exit::Failed, "signals cannot be caught").because(error.to_string())
        })
    };
    let (mut interrupt, mut terminate, mut hangup) =
        (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?, catch(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    screen::aside("interrupted; stopping what was started");
    Ok(Exit::Interrupted)
}
