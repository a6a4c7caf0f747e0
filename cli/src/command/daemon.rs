//! `muster daemon coordinator|agent`: what `up` starts. The same as the binaries `muster-coordinator` and
//! `muster-agent`, except that it also stops when whoever started it is gone.

use std::error::Error;

use muster_agent::daemon::DaemonError as AgentError;
use muster_coordinator::daemon::DaemonError as CoordinatorError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::Daemon;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// Runs it until it is told to stop.
pub(crate) async fn run(daemon: Daemon) -> Outcome {
    match daemon {
        Daemon::Coordinator(args) => {
            let config = muster_coordinator::config::Config::load(&args.config)?;
            let _telemetry = config.telemetry().build().map_err(telemetry)?;
            let stop = stop_signal(args.attached)?;
            muster_coordinator::daemon::run(config, stop).await.map_err(coordinator)?;
        }
        Daemon::Agent(args) => {
            let config = muster_agent::config::Config::load(&args.config)?;
            let _telemetry = config.telemetry().build().map_err(telemetry)?;
            let stop = stop_signal(args.attached)?;
            muster_agent::daemon::run(config, stop).await.map_err(agent)?;
        }
    }
    Ok(Exit::Done)
}

fn telemetry(error: muster_telemetry::TelemetryError) -> Failure {
    Failure::usage(error.to_string()).caused_by(&error)
}

/// True from SIGINT or SIGTERM on; and, if attached, from the end of standard input.
fn stop_signal(attached: bool) -> Result<watch::Receiver<bool>, Failure> {
    let no_signal =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = input_ends(), if attached => {}
        }
        stop.send_replace(true);
    });
    Ok(stopped)
}

/// Ends when standard input does: whoever started this is gone.
pub(crate) async fn input_ends() {
    let (tell, ended) = tokio::sync::oneshot::channel();
    // A thread of its own: a read that never returns must hold up nothing.
    std::thread::spawn(move || {
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        // Nobody waits any more if something else stopped us.
        let _ = tell.send(());
    });
    drop(ended.await);
}

/// Why a coordinator ended, in the operator's words.
pub(crate) fn coordinator(error: CoordinatorError) -> Failure {
    let exit = match &error {
        CoordinatorError::Locked { .. }
        | CoordinatorError::NotExclusive { .. }
        | CoordinatorError::Copy { .. } => Exit::Refused,
        CoordinatorError::Notify(_)
        | CoordinatorError::Key(_)
        | CoordinatorError::KeyFormat { .. }
        | CoordinatorError::Retry(_)
        | CoordinatorError::Share(_)
        | CoordinatorError::Bus(_)
        | CoordinatorError::Http(_) => Exit::Usage,
        CoordinatorError::NotCoordinator { .. } | CoordinatorError::Revoked { .. } => Exit::Key,
        CoordinatorError::Connect(_) | CoordinatorError::Lead { .. } => Exit::Unreachable,
        CoordinatorError::Log(_) => Exit::Damaged,
        CoordinatorError::State { .. } | CoordinatorError::Memory(_) | CoordinatorError::Task(_) => {
            Exit::Failed
        }
    };
    Failure::new(exit, error.to_string()).caused_by(&error as &dyn Error)
}

/// Why an agent ended, in the operator's words.
pub(crate) fn agent(error: AgentError) -> Failure {
    let exit = match &error {
        AgentError::Locked { .. } => Exit::Refused,
        AgentError::Key { .. } | AgentError::Share(_) => Exit::Usage,
        AgentError::Connect(_) => Exit::Unreachable,
        AgentError::Revoked { .. } => Exit::Key,
        AgentError::State { .. }
        | AgentError::Memory(_)
        | AgentError::Bus { .. }
        | AgentError::BusClosed
        | AgentError::Fault
        | AgentError::Engine(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string()).caused_by(&error as &dyn Error)
}
