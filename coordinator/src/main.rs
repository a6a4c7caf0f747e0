//! `muster-coordinator --config FILE`: a coordinator until SIGINT or SIGTERM.
//!
//! Exit codes: 0 done, 2 usage or configuration, else as `DaemonError::exit_code` says.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the last word before a process ends is for people"
)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use muster_coordinator::config::Config;
use muster_coordinator::daemon;
use muster_share::core_dumps;
use muster_telemetry::service_manager;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const USAGE: &str = "usage: muster-coordinator --config FILE | --version";

fn main() -> ExitCode {
    if let Err(error) = core_dumps::forbid() {
        eprintln!("warning: core dumps of this process cannot be forbidden: {error}");
    }
    let mut words = std::env::args_os().skip(1);
    let config = match (words.next(), words.next(), words.next()) {
        (Some(word), None, None) if word == "--version" => {
            println!("muster-coordinator {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        (Some(word), Some(file), None) if word == "--config" => PathBuf::from(file),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Config::load(&config).map_err(Box::<dyn Error>::from).and_then(|config| {
        let telemetry = config.telemetry().build()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok((config, telemetry, runtime))
    });
    let (config, _telemetry, runtime) = match started {
        Ok(started) => started,
        Err(error) => return said(error.as_ref(), 2),
    };
    let ended: std::io::Result<_> = runtime.block_on(async {
        let stop = stop_signal()?;
        tokio::spawn(service_manager::keep_alive());
        Ok(daemon::run(config, stop).await)
    });
    // A blocking call on a dead share must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => said(&error, error.exit_code()),
        Err(error) => said(&error, 1),
    }
}

fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        service_manager::stopping();
        stop.send_replace(true);
    });
    Ok(stopped)
}

fn said(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprintln!("  {error}");
        source = error.source();
    }
    ExitCode::from(code)
}
