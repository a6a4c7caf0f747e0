//! `muster up DIR`: nats-server, coordinators and agents of a folder in the foreground, as processes of their own that
//! are started again when they die. What `enroll --here` adds is started as well. Ctrl-C stops agents and coordinators
//! first, then nats-server.

mod service;

use std::time::Duration;

use muster_telemetry::service_manager;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::Folder;
use crate::command::daemon;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::folder::FleetFolder;
use crate::nats_reload::Accounts;
use crate::{bus_users, nats_server, screen, sealed_files};
use service::{Services, words};

/// Runs until it is told to stop.
pub(crate) async fn run(args: Folder) -> Outcome {
    let folder = FleetFolder::open_with_any_agent(&args.dir)?;
    let no_signal =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut gone = std::pin::pin!(async move {
        match args.attached {
            true => daemon::input_ends().await,
            false => std::future::pending().await,
        }
    });
    folder.warn_of_keys();
    let program = nats_server::find()?;
    // A command that was stopped between the two files left the accounts old.
    bus_users::change(&folder.dir, |_| {})?;
    let mut accounts = Accounts::of(&folder.dir);
    let mut nats = tokio::select! {
        started = nats_server::start(&program, &folder) => started?,
        _ = interrupt.recv() => return Ok(Exit::Interrupted),
        _ = terminate.recv() => return Ok(Exit::Done),
        () = &mut gone, if args.attached => return Ok(Exit::Done),
    };
    screen::line(format!("nats-server answers at {}", folder.operator.nats.url));

    let (stop, stopped) = watch::channel(false);
    let mut children = JoinSet::new();
    let mut services = Services::of(&folder)?;
    for service in services.all(&folder) {
        children.spawn(service.keep_running(stopped.clone()));
    }
    screen::line(format!(
        "fleet {} is up: {} and {}; Ctrl-C stops it",
        folder.operator.fleet.name,
        screen::plural(folder.coordinators.len(), "coordinator"),
        screen::plural(folder.agents.len(), "agent")
    ));
    screen::line(format!(
        "→ muster start --wait --config {}",
        folder.dir.join(crate::operator::FILE).display()
    ));
    service_manager::ready(&format!("fleet {}", folder.operator.fleet.name));
    let alive = tokio::spawn(service_manager::keep_alive());
    let keeping = tokio::spawn(sealed_files::keep(folder.dir.clone(), folder.operator.clone()));
    let outcome = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(Exit::Interrupted),
            _ = terminate.recv() => break Ok(Exit::Done),
            () = &mut gone, if args.attached => break Ok(Exit::Done),
            Some(ended) = children.join_next() => {
                if let Ok(Err(failure)) = ended {
                    break Err(failure);
                }
            }
            service = services.newcomer() => {
                screen::line(format!("{} is new here; starting it", service.name));
                children.spawn(service.keep_running(stopped.clone()));
            }
            () = accounts.changed() => accounts.reload(&nats).await,
            status = nats.wait() => {
                screen::line(format!("nats-server ended ({}); starting it again", words(status)));
                tokio::time::sleep(Duration::from_secs(1)).await;
                match nats_server::start(&program, &folder).await {
                    Ok(child) => nats = child,
                    Err(failure) => break Err(failure),
                }
            }
        }
    };
    service_manager::stopping();
    keeping.abort();
    screen::line("stopping agents and coordinators");
    stop.send_replace(true);
    while children.join_next().await.is_some() {}
    nats_server::stop(&mut nats).await;
    alive.abort();
    screen::line("stopped");
    outcome
}
