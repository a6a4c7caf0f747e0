//! `muster config`: the fleet-wide settings. `show` reads them, and says what else the share keeps; `set` and `unset` change some, all
//! of them or none, signed by an admin; `history` tells who changed which.

mod changes;

use std::collections::BTreeMap;

use muster_coordinator::view::settings::{KeptView, SettingsView as View};
use muster_protocol::ids::ServiceName;
use muster_protocol::settings;
use muster_share::prune;

use crate::args::{Config as Args, Contact};
use crate::command::audit;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::fleet::{self, Fleet};
use crate::round_view::HeadView;
use crate::timetable::{self, InWords, Timetable};
use crate::{screen, sealed_files};
use changes::Changes;

/// Does it.
pub(crate) async fn run(args: Args) -> Outcome {
    match args {
        Args::Show(contact) => show(contact).await,
        Args::Set { changes, contact } => change(Changes::to_set(&changes)?, contact).await,
        Args::Unset { keys, contact } => change(Changes::to_unset(&keys)?, contact).await,
        Args::History { page, reading } => audit::show(&reading, &page, Some("config")).await,
    }
}

async fn show(contact: Contact) -> Outcome {
    let (folder, operator) = fleet::operator_at(contact.config.as_deref())?;
    let fleet = Fleet::of(operator).await?;
    let state = fleet.state();
    let kept = sealed_files::in_force(fleet.log.store().as_ref(), state, &sealed_files::keys(&folder)).await;
    let mut view = View::of(state);
    view.kept = kept.as_ref().ok().and_then(Option::as_ref).map(|config| KeptView {
        files: config.files.keys().cloned().collect(),
        credentials: config.credentials.as_ref().map(|credentials| credentials.fingerprint()),
        recipients: config.recipients.iter().map(ToString::to_string).collect(),
    });
    if contact.json {
        screen::json(&view);
        return Ok(Exit::Done);
    }
    for (key, value) in &view.settings {
        let what = settings::what(key).map(|what| format!("   # {what}")).unwrap_or_default();
        let origin = if view.origins.get(key) == Some(&"default") { " (default)" } else { "" };
        screen::line(format!("{key} = {value}{what}{origin}"));
    }
    match (&view.kept, &view.sealed) {
        (Some(kept), _) => {
            screen::line(format!("kept sealed for a rebuild: {}", kept.files.join(", ")));
            screen::line(match &kept.credentials {
                Some(fingerprint) => format!("share credentials: {fingerprint} (fingerprint)"),
                None => "share credentials: none".to_owned(),
            });
            let recovery: Vec<_> = state.recipients().iter().map(ToString::to_string).collect();
            let (by_kit, by_coordinators): (Vec<_>, Vec<_>) =
                kept.recipients.iter().cloned().partition(|recipient| recovery.contains(recipient));
            screen::line(format!("it opens with the recovery keys {}", by_kit.join(", ")));
            screen::line(format!(
                "and for the coordinators, who open no backup: {}",
                by_coordinators.join(", ")
            ));
        }
        (None, Some(object)) => {
            screen::line(format!("kept sealed for a rebuild: {object}, which no key here opens"));
            if let Err(failure) = &kept {
                screen::aside(format!("note: {}", failure.what()));
            }
        }
        (None, None) => screen::line("nothing is kept sealed for a rebuild yet: muster once DIR keeps it"),
    }
    Ok(Exit::Done)
}

async fn change(changes: Changes, contact: Contact) -> Outcome {
    let operator = fleet::operator(contact.config.as_deref())?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let admin = sealed_files::admin(fleet.state(), &operator)?;
    let before = timetable::clear(fleet.state());
    for service in changes.services() {
        if service.parse::<ServiceName>().is_ok_and(|service| fleet.state().agent(&service).is_none()) {
            screen::aside(format!("note: there is no service {service} yet; the rule waits for it"));
        }
    }
    let mut after = before.clone();
    changes.apply(&mut after);
    sealed_files::judge(&after)?;
    if changes.retain_less(&before) {
        say_what_goes(&fleet, &before, &after).await;
    }
    let head = sealed_files::set(&mut fleet.log, &admin, |clear| {
        changes.apply(clear);
        Ok(())
    })
    .await?;
    fleet.remember()?;
    if contact.json {
        let head = head.map(|head| HeadView { number: head.number, hash: head.hash.to_string() });
        screen::json(&View { head, ..View::of(fleet.state()) });
        return Ok(Exit::Done);
    }
    let lines = match head {
        Some(head) => {
            let signed = format!("signed by {} · log record {}", operator.operator.name, head.number);
            changes.told(&before).into_iter().map(|line| format!("{line} · {signed}")).collect()
        }
        None => changes.already(),
    };
    lines.into_iter().for_each(screen::line);
    if changes.concern_the_schedule() {
        let times = Timetable::of(fleet.state(), screen::now());
        screen::line(format!("next round: {}", times.next_round()));
    }
    Ok(Exit::Done)
}

/// Tells which rounds the new settings keep no longer, before they are signed.
async fn say_what_goes(fleet: &Fleet, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let (store, state, now) = (fleet.log.store().as_ref(), fleet.state(), screen::now());
    let due = async {
        let old = prune::due(store, state, before, now).await?;
        let new = prune::due(store, state, after, now).await?;
        Ok::<_, prune::PruneError>(new.into_iter().filter(|number| !old.contains(number)).collect::<Vec<_>>())
    };
    match due.await {
        Ok(going) if going.is_empty() => screen::aside("note: no round goes by this that would have stayed"),
        Ok(going) => {
            let rounds = screen::plural(going.len(), "round");
            let (first, last) = (going.first().copied().unwrap_or(0), going.last().copied().unwrap_or(0));
            let which = if first == last { first.to_string() } else { format!("{first} to {last}") };
            screen::aside(format!("note: {rounds} would go that stayed so far: {which}"));
            screen::aside(
                "  → muster hold ROUND --reason TEXT keeps one; muster prune --dry-run shows what goes",
            );
        }
        Err(error) => screen::aside(format!("note: which rounds would go by this cannot be told: {error}")),
    }
}
