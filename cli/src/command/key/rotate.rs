//! `muster key rotate`: new recovery keys from the next round on. A round that is open keeps those that it was opened with,
//! and earlier rounds keep theirs for ever: old private keys stay needed as long as those rounds are.

use std::path::Path;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::log::{Keyset, KeysetKey, State};
use muster_share::entropy::OsEntropy;
use serde::Serialize;

use crate::args::Rotate;
use crate::command::init::plan::{empty, real, recipients, share_folder};
use crate::command::init::undo::Undo;
use crate::command::init::write::Writer;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::new_kit::{self, Facts};
use crate::operator::Operator;
use crate::round_view::HeadView;
use crate::saying::{previous, root_key, say};
use crate::screen;
use crate::sealed_files::{self, Files};

/// `{"schema":"muster.key-rotate/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    /// What rounds opened from here on open with.
    recipients: Vec<String>,
    /// Keys of the keyset before that open no new round.
    dropped: Vec<String>,
    head: HeadView,
    kit: Option<String>,
    /// The newest round that was opened with the keys before.
    last_round_before: u64,
}

/// Rotates.
pub(super) async fn run(args: Rotate) -> Outcome {
    let (folder, operator) = fleet::operator_at(args.contact.config.as_deref())?;
    let root = root_key(&args.root, Some(&operator.fleet.root))?;
    let given = recipients(&args.recipient)?;
    let kit = args.kit.as_deref().map(|kit| place(kit, &folder, &args.root, &operator)).transpose()?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let recovery = kit.is_some().then(|| Identity::generate(&mut OsEntropy));
    let keys = keyset(recovery.as_ref(), given, fleet.state());
    let before = fleet.state().recipients();
    if keys.iter().map(|key| key.recipient.clone()).collect::<Vec<_>>() == before {
        return Err(Failure::new(Exit::Refused, "these are the recovery keys in force already"));
    }

    let mut undo = Undo::new();
    let facts = Facts {
        fleet: operator.fleet.clone(),
        share: operator.share.url.clone(),
        services: fleet.state().services().iter().map(ToString::to_string).collect(),
        recipients: keys.iter().map(|key| key.recipient.clone()).collect(),
        created: screen::rfc3339(screen::now()),
    };
    if let (Some(kit), Some(recovery)) = (&kit, &recovery) {
        // The kit first: a keyset whose private key was never written would seal rounds that nobody opens.
        new_kit::write(kit, &facts, recovery, &mut Writer { undo: &mut undo })?;
    }
    let make = |state: &State| {
        Ok(Keyset { previous: previous::<Keyset>(state), keys: keys.clone(), at: Some(screen::now()) })
    };
    let stands = |state: &State| state.keyset().is_some_and(|(_, keyset)| keyset.keys == keys);
    let head = say::<Keyset>(&mut fleet.log, &root, make, stands).await?;
    undo.keep();
    fleet.remember()?;
    if let (Some(kit), Some(recovery)) = (&kit, &recovery) {
        let mut undo = Undo::new();
        new_kit::page(kit, &facts, &head, &mut Writer { undo: &mut undo })?;
        if args.print_private {
            new_kit::private_page(kit, &facts, recovery, &mut Writer { undo: &mut undo })?;
        }
        undo.keep();
        operator.note_offline(kit)?;
    }
    // The kit that is new now must open it as well.
    sealed_files::refresh_or_say(&mut fleet.log, &folder, &operator, &Files::new()).await;
    let dropped: Vec<_> = before.into_iter().filter(|known| !facts.recipients.contains(known)).collect();
    let last = fleet.state().last_round;
    let text = |keys: &[Recipient]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let kit_text = kit.as_ref().map(|kit| kit.display().to_string());
    if args.contact.json {
        screen::json(&View {
            schema: "muster.key-rotate/1",
            recipients: text(&facts.recipients),
            dropped: text(&dropped),
            head: HeadView { number: head.number, hash: head.hash.to_string() },
            kit: kit_text,
            last_round_before: last,
        });
        return Ok(Exit::Done);
    }
    screen::line(format!("recovery keys of {} changed · log record {}", operator.fleet.name, head.number));
    for key in &keys {
        screen::line(format!("opens     {} ({})", key.recipient, key.label));
    }
    for key in &dropped {
        screen::line(format!("no more   {key}"));
    }
    screen::line(format!("rounds from {} on open with the new keys, and upload everything once", last + 1));
    if last > 0 {
        screen::line(format!(
            "rounds up to {last} still open with the keys before: keep those as long as you keep the rounds"
        ));
    }
    if let Some(kit) = kit_text {
        screen::line(format!(
            "kit       {kit}: recovery.key (private), root.pub, emergency.py, kit.html (print it), README.md"
        ));
        screen::line("warning: KEY-02: the new private key still lies on this machine");
        screen::line(format!("  → move {kit} to a medium that you can take away"));
        screen::line(format!("  → after the next round: muster key prove --kit {kit}"));
    }
    screen::line("note: take the root key away again");
    Ok(Exit::Done)
}

/// The kit's own key, then those that were given; a key that was known before keeps its label.
fn keyset(recovery: Option<&Identity>, given: Vec<Recipient>, state: &State) -> Vec<KeysetKey> {
    let year: String = screen::rfc3339(screen::now()).chars().take(4).collect();
    let known = |recipient: &Recipient| {
        let keys = state.keysets.values().flat_map(|keyset| &keyset.keys);
        keys.rev().find(|key| key.recipient == *recipient).map(|key| key.label.clone())
    };
    let kit = recovery.map(|key| KeysetKey { recipient: key.recipient(), label: format!("kit {year}") });
    let escrow = given.into_iter().enumerate().map(|(index, recipient)| KeysetKey {
        label: known(&recipient).unwrap_or_else(|| format!("escrow {} {year}", index + 1)),
        recipient,
    });
    kit.into_iter().chain(escrow).collect()
}

/// The new kit lies apart from everything that it must survive.
fn place(kit: &Path, fleet: &Path, root: &Path, operator: &Operator) -> Result<std::path::PathBuf, Failure> {
    let kit = real(kit)?;
    empty("--kit", &kit)?;
    let share = share_folder(&operator.share.url);
    let apart = [
        ("the fleet's folder", Some(fleet.to_owned())),
        ("--root", Some(root.to_owned())),
        ("the share", share),
    ];
    for (what, other) in apart {
        let Some(other) = other else { continue };
        let other = real(&other)?;
        if kit.starts_with(&other) || other.starts_with(&kit) {
            return Err(Failure::usage(format!("--kit ({}) and {what} lie in each other", kit.display()))
                .because("The kit must lie apart: keys must be nowhere where backups or the fleet are.")
                .next("give --kit a path of its own, best on a medium that you can take away"));
        }
    }
    Ok(kit)
}
