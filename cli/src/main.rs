//! `muster`: the command line. Reads arguments, runs one command, and turns its end into an exit code.
//!
//! Commands are in [`command`], one file each; the shapes of their arguments in [`args`].

mod alerts;
mod args;
mod bus_users;
mod command;
mod coverage;
mod drill_view;
mod entry_view;
mod exit;
mod failure;
mod finding;
mod fleet;
mod folder;
mod follow;
mod kit;
mod leader;
mod lock;
mod looking;
mod nats_reload;
mod nats_server;
mod new_kit;
mod operator;
mod preflight;
mod proof;
mod reading_back;
mod reason;
mod room;
mod round_name;
mod round_view;
mod saying;
mod scratch;
mod screen;
mod scrub_view;
mod sealed_files;
mod share_access;
mod spilled;
mod steady;
mod suspicion;
mod telemetry;
mod timetable;
mod trial;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use exit::Exit;
use failure::{Failure, Outcome};
use muster_agent::hold;
use muster_share::core_dumps;

fn main() -> ExitCode {
    // Before anything else is begun: this is the watchdog of an agent that runs in `once` or `up`.
    if std::env::args_os().nth(1).is_some_and(|word| word == hold::COMMAND) {
        return hold::run_watchdog();
    }
    if let Err(error) = core_dumps::forbid() {
        screen::aside(format!("warning: core dumps of this process cannot be forbidden: {error}"));
    }
    if let Err(failure) = spilled::refuse(std::env::args_os()) {
        screen::asides(failure.to_string());
        return failure.exit().into();
    }
    let arguments = Arguments::parse();
    share_access::given(arguments.share_access);
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(arguments.command));
            // A blocking call on a dead share must not hold up the end.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::new(Exit::Failed, format!("no threads can be started: {error}"))),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen::asides(failure.to_string());
            failure.exit().into()
        }
    }
}

/// Commands that leave something to be ended in order catch Ctrl-C themselves; every other one is left where it is.
async fn run(command: Command) -> Outcome {
    let ends_itself = matches!(
        command,
        Command::Up(_)
            | Command::Once(_)
            | Command::Demo(_)
            | Command::Daemon(_)
            | Command::Verify(_)
            | Command::Recover(_)
            | Command::Drill(_)
            | Command::Restore(_)
            | Command::Dump(_)
            | Command::Start(_)
            | Command::Watch(_)
    );
    if ends_itself {
        return dispatch(command).await;
    }
    // Half a fleet, or a member whose files are gone while the roster has it, is worse than a moment's wait.
    let founding = matches!(
        command,
        Command::Init(_)
            | Command::Enroll(_)
            | Command::Revoke(_)
            | Command::Adopt(_)
            | Command::Rebuild(_)
            | Command::Config(_)
            | Command::Token(_)
            | Command::Enable(_)
            | Command::Disable(_)
            | Command::Share(_)
            | Command::Key(args::Key::Rotate(_))
    );
    let work = dispatch(command);
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => outcome,
        // Every step of it has a limit.
        _ = tokio::signal::ctrl_c(), if founding => work.await,
        _ = tokio::signal::ctrl_c(), if !founding => {
            screen::aside("interrupted");
            Ok(Exit::Interrupted)
        }
    }
}

async fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Init(args) => command::init::run(args).await,
        Command::Start(args) => command::start::run(args).await,
        Command::Cancel(args) => command::cancel::run(args).await,
        Command::Watch(args) => command::watch::run(args).await,
        Command::Status(args) => command::status::run(args).await,
        Command::Doctor(args) => command::doctor::run(args).await,
        Command::Rounds(args) => command::rounds::run(args).await,
        Command::Show(args) => command::show::run(args).await,
        Command::Prune(args) => {
            telemetry::told(|| tracing::info_span!("prune"), command::prune::run(args)).await
        }
        Command::Hold(args) => command::hold::hold(args).await,
        Command::Unhold(args) => command::hold::unhold(args).await,
        Command::Agents(args) => command::agents::run(args).await,
        Command::Alerts(args) => command::alerts::run(args).await,
        Command::Notify(args) => command::notify::run(args).await,
        Command::Enroll(args) => command::enroll::run(args).await,
        Command::Revoke(args) => command::revoke::run(args).await,
        Command::Adopt(args) => command::adopt::run(args).await,
        Command::Rebuild(args) => command::rebuild::run(args).await,
        Command::Enable(args) => command::enable::run(args).await,
        Command::Disable(args) => command::disable::run(args).await,
        Command::Audit(args) => command::audit::run(args).await,
        Command::Config(args) => command::config::run(args).await,
        Command::Share(args) => command::share::run(args).await,
        Command::Token(args) => command::token::run(args).await,
        Command::Key(args) => command::key::run(args).await,
        Command::Up(args) => command::up::run(args).await,
        Command::Once(args) => command::once::run(args).await,
        Command::Demo(args) => command::demo::run(args).await,
        Command::Verify(args) => command::verify::run(args).await,
        Command::Recover(args) => {
            telemetry::told(|| tracing::info_span!("recover"), command::recover::run(args)).await
        }
        Command::Drill(args) => {
            telemetry::told(|| tracing::info_span!("drill"), command::drill::run(args)).await
        }
        Command::Restore(args) => command::restore::run(args).await,
        Command::Ls(args) => command::ls::run(args).await,
        Command::Find(args) => command::find::run(args).await,
        Command::Dump(args) => command::dump::run(args).await,
        Command::Daemon(args) => command::daemon::run(args).await,
    }
}
