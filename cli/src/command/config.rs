//! `muster config`: the fleet-wide settings. `show` reads them, and says what else the share keeps; `set` changes one, signed by
//! an admin.

use std::collections::BTreeMap;

use muster_protocol::ids::ServiceName;
use muster_protocol::settings;
use serde::Serialize;

use crate::args::{Config as Args, Contact};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::round_view::HeadView;
use crate::screen;
use crate::sealed_files;

/// `{"schema":"muster.config/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    settings: BTreeMap<String, String>,
    /// The object that keeps the sealed part.
    sealed: Option<String>,
    /// What it holds; none when it cannot be opened here.
    kept: Option<Kept>,
    /// The record that says so now; none where nothing was changed.
    head: Option<HeadView>,
}

#[derive(Debug, Serialize)]
struct Kept {
    files: Vec<String>,
    /// Fingerprint of the share's credentials.
    credentials: Option<String>,
    /// Who may read it.
    recipients: Vec<String>,
}

/// Does it.
pub(crate) async fn run(args: Args) -> Outcome {
    match args {
        Args::Show(contact) => show(contact).await,
        Args::Set { key, value, contact } => set(&key, &value, contact).await,
    }
}

async fn show(contact: Contact) -> Outcome {
    let (folder, operator) = fleet::operator_at(contact.config.as_deref())?;
    let fleet = Fleet::of(operator).await?;
    let state = fleet.state();
    let sealed = state.config.as_ref().and_then(|config| config.sealed);
    let kept = sealed_files::in_force(fleet.log.store().as_ref(), state, &sealed_files::keys(&folder)).await;
    let settings = state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default();
    let view = View {
        schema: "muster.config/1",
        settings,
        sealed: sealed.map(|id| format!("lists/{id}")),
        kept: kept.as_ref().ok().and_then(Option::as_ref).map(|config| Kept {
            files: config.files.keys().cloned().collect(),
            credentials: config.credentials.as_ref().map(|credentials| credentials.fingerprint()),
            recipients: config.recipients.iter().map(ToString::to_string).collect(),
        }),
        head: None,
    };
    if contact.json {
        screen::json(&view);
        return Ok(Exit::Done);
    }
    for (key, value) in &view.settings {
        let what = settings::what(key).map(|what| format!("   # {what}")).unwrap_or_default();
        screen::line(format!("{key} = {value}{what}"));
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

async fn set(key: &str, value: &str, contact: Contact) -> Outcome {
    settings::check(key, value).map_err(|error| {
        Failure::usage(error.to_string()).next("muster config show names the settings and their values")
    })?;
    let operator = fleet::operator(contact.config.as_deref())?;
    let mut fleet = Fleet::of(operator.clone()).await?;
    let admin = sealed_files::admin(fleet.state(), &operator)?;
    let before = fleet.state().config.as_ref().and_then(|config| config.clear.get(key)).cloned();
    if let Some(service) = key.strip_prefix("service.").and_then(|name| name.parse::<ServiceName>().ok())
        && fleet.state().agent(&service).is_none()
    {
        screen::aside(format!("note: there is no service {service} yet; the rule waits for it"));
    }
    let head = sealed_files::set(&mut fleet.log, &admin, key, value).await?;
    fleet.remember()?;
    if contact.json {
        let state = fleet.state();
        screen::json(&View {
            schema: "muster.config/1",
            settings: state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default(),
            sealed: state.config.as_ref().and_then(|config| config.sealed).map(|id| format!("lists/{id}")),
            kept: None,
            head: head.map(|head| HeadView { number: head.number, hash: head.hash.to_string() }),
        });
        return Ok(Exit::Done);
    }
    screen::line(match (head, before) {
        (Some(head), Some(before)) => {
            format!(
                "{key} = {value}, was {before} · signed by {} · log record {}",
                operator.operator.name, head.number
            )
        }
        (Some(head), None) => {
            format!("{key} = {value} · signed by {} · log record {}", operator.operator.name, head.number)
        }
        (None, _) => format!("{key} is {value} already"),
    });
    Ok(Exit::Done)
}
