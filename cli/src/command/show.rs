//! `muster show ROUND`: one round, as log and manifest tell it. Needs only the share.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::log::{RoundPhase, RoundState};
use muster_protocol::service_policy::ServicePolicies;
use muster_protocol::units::{format_duration, format_size};

use crate::args::Show;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::fleet::Fleet;
use crate::round_view::{RoundView, SliceView, TryView};
use crate::screen;

/// Shows it.
pub(crate) async fn run(args: Show) -> Outcome {
    let fleet = Fleet::open(&args.reading).await?;
    let round = args.round.find(fleet.state())?;
    let view = RoundView::read(&fleet.shown(), round).await?;
    if args.reading.json {
        screen::json(&view);
    } else {
        print(&fleet, round, &view);
    }
    Ok(Exit::Done)
}

fn print(fleet: &Fleet, round: &RoundState, view: &RoundView) {
    screen::line(view.summary());
    screen::line(identity(view));
    let mut times = format!("started by {} {}", view.trigger, screen::time(round.open.at));
    match &round.phase {
        RoundPhase::Open => times.push_str(" · open"),
        RoundPhase::Committed { commit, verified, .. } => {
            times.push_str(&format!(" · committed {}", screen::time(commit.at)));
            if let Some(verified) = verified {
                let read = format_size(verified.bytes);
                times.push_str(&format!(
                    " · verified {}: {} objects, {read} read again",
                    screen::time(verified.at),
                    verified.objects
                ));
            }
        }
        RoundPhase::Ended(end) => {
            times.push_str(&format!(" · ended {}: {}", screen::time(end.at), end.reason))
        }
    }
    screen::line(times);
    for one in &round.resumed {
        let (name, at) = (fleet.state().name_of(&one.holder), screen::time(one.at));
        screen::line(format!("led by {name} in epoch {} from {at} on: it went on with the round", one.epoch));
    }
    if let Some(hold) = &round.hold {
        let reason = hold.reason.as_deref().unwrap_or("no reason was given");
        screen::line(format!("held: {reason} · log record {}", hold.position));
    }
    if round.swept {
        screen::line("it was pruned: its objects are deleted, and it cannot be recovered");
        screen::line("→ muster rounds names those that are there");
        return;
    }
    if let Some(manifest) = &view.manifest {
        screen::line(format!(
            "manifest {} · log record {} · head {}",
            manifest.hash,
            manifest.log_number,
            fleet.log.head()
        ));
        if let Some(keyset) = fleet.state().keysets.get(&manifest.keyset) {
            let keys: Vec<_> =
                keyset.keys.iter().map(|key| format!("{} ({})", key.recipient, key.label)).collect();
            screen::line(format!("opens with: {}", keys.join(", ")));
        }
    }
    screen::line("");
    // Only its leader knows how far an open round is.
    let open = round.phase == RoundPhase::Open;
    let rows = view
        .services
        .iter()
        .map(|service| {
            vec![
                service.service.clone(),
                if service.damaged_objects > 0 {
                    format!("{}, damaged", service.state)
                } else {
                    service.state.to_owned()
                },
                if open { "-".to_owned() } else { service.attempts.to_string() },
                service.timing.as_ref().map_or_else(String::new, |timing| since(timing.checked_millis)),
                service.entries.to_string(),
                format_size(service.source_bytes),
                format_size(service.added_bytes),
                format_size(service.stored_bytes),
            ]
        })
        .collect();
    screen::lines(screen::table(
        &["service", "state", "attempts", "after", "entries", "source", "added", "stored"],
        rows,
    ));
    for trouble in view.troubles() {
        screen::line(format!("  {trouble}"));
    }
    if let Some(note) = note(round, view) {
        screen::line(format!("  {note}"));
    }
    if !round.resumed.is_empty() && view.services.iter().any(|service| service.timing.is_some()) {
        screen::line("  `after` counts from when the last coordinator went on with the round");
    }
    let mut story = story(view);
    let policies = fleet.state().config.as_ref().map(|config| ServicePolicies::of(&config.clear));
    story.extend(tiers(view, &policies.unwrap_or_default()));
    if !story.is_empty() {
        screen::line("");
        story.into_iter().for_each(screen::line);
    }
}

/// The whole id: what a trace viewer takes.
fn identity(view: &RoundView) -> String {
    format!("id {}, which is its trace's as well unless its trigger brought one", view.round)
}

/// Time since the round began.
fn since(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}

/// What a table cannot say: the cut, every attempt that failed, and who kept the round waiting.
fn story(view: &RoundView) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(cut) = &view.cut {
        let members = screen::plural(cut.members.len(), "service");
        lines.push(match &cut.broken {
            None => format!("cut: {members} within {}", since(cut.skew_millis)),
            Some(_) => format!("cut: broken, {members} kept their place"),
        });
        lines.extend(waited_for(view));
        lines.extend(cut.outside.iter().map(|one| format!("  outside: {}: {}", one.service, one.reason)));
    }
    lines.extend(view.services.iter().flat_map(failures));
    lines.extend(slowest(view));
    lines
}

/// Every attempt that failed; those that follow one another with one reason are one line.
fn failures(service: &SliceView) -> Vec<String> {
    let same = |a: &TryView, b: &TryView| (&a.code, &a.reason) == (&b.code, &b.reason);
    let line = |tries: &[TryView]| {
        let (first, last) = (tries.first()?, tries.last()?);
        let (attempts, after) = if tries.len() == 1 {
            (format!("attempt {}", first.attempt), since(first.after_millis))
        } else {
            let after = tries.iter().map(|one| since(one.after_millis)).collect::<Vec<_>>().join(", ");
            (format!("attempts {} to {}", first.attempt, last.attempt), after)
        };
        Some(format!("{}: {attempts} failed after {after}: {} {}", service.service, last.code, last.reason))
    };
    service.tries.chunk_by(same).filter_map(line).collect()
}

/// What the table alone would leave open.
fn note(round: &RoundState, view: &RoundView) -> Option<String> {
    match &round.phase {
        RoundPhase::Open => Some(format!("→ muster watch {} tells how far it is", view.number)),
        RoundPhase::Ended(_) if view.services.iter().any(|service| service.state == "stored") => {
            Some("what was stored does not count: the round was not committed".to_owned())
        }
        RoundPhase::Ended(_) | RoundPhase::Committed { .. } => None,
    }
}

/// When a service was ready, or given up, since the round began.
fn ready(service: &SliceView) -> Option<u64> {
    let given_up = service.tries.last().filter(|_| service.state == "absent");
    service.timing.as_ref().map(|timing| timing.checked_millis).or(given_up.map(|last| last.after_millis))
}

/// Whom the services of each later tier waited for, by the rules of today.
fn tiers(view: &RoundView, policies: &ServicePolicies) -> Vec<String> {
    let mut tiers: BTreeMap<u8, Option<(u64, &str)>> = BTreeMap::new();
    for service in &view.services {
        let Ok(name) = service.service.parse() else { continue };
        let last = tiers.entry(policies.policy(&name).tier).or_default();
        *last = (*last).max(ready(service).map(|millis| (millis, service.service.as_str())));
    }
    let later = tiers.keys().skip(1);
    let waited = later.zip(tiers.values()).filter_map(|(tier, before)| {
        let (millis, name) = (*before)?;
        Some(format!("tier {tier} waited for {name}, which was through after {}", since(millis)))
    });
    waited.collect()
}

/// Whom all others of the cut waited for, held, if it was much longer than for most.
fn waited_for(view: &RoundView) -> Option<String> {
    let held = |service: &'_ SliceView| service.timing.as_ref().and_then(|timing| timing.quiesced_millis);
    let mut held: Vec<_> =
        view.services.iter().filter_map(|service| held(service).map(|at| (at, &service.service))).collect();
    held.sort();
    let (middle, _) = *held.get((held.len().max(1) - 1) / 2)?;
    let (last, service) = *held.last()?;
    (held.len() > 1 && last > middle + 500).then(|| {
        format!("  {service} was quiesced last, after {} (half of them after {})", since(last), since(middle))
    })
}

/// The service that was ready last, or given up last, if it was much later than most.
fn slowest(view: &RoundView) -> Option<String> {
    let late: Vec<_> =
        view.services.iter().filter(|service| service.code == Some(Code::Round02.as_str())).collect();
    if !late.is_empty() {
        let names: Vec<_> = late.iter().map(|service| service.service.as_str()).collect();
        return Some(format!("slowest: {}, not there when the time was over", names.join(", ")));
    }
    let mut timed: Vec<_> =
        view.services.iter().filter_map(|service| ready(service).map(|millis| (millis, service))).collect();
    timed.sort_by_key(|(millis, _)| *millis);
    let (middle, _) = *timed.get((timed.len().max(1) - 1) / 2)?;
    let (last, service) = *timed.last()?;
    if timed.len() < 2 || last <= 2 * middle.max(500) {
        return None;
    }
    let half = format!("half of the services after {}", since(middle));
    Some(match &service.timing {
        Some(timing) => format!(
            "slowest: {}, whole after {} ({half}): hello after {}, last notice after {}",
            service.service,
            since(last),
            since(timing.greeted_millis),
            since(timing.noticed_millis),
        ),
        None => format!("slowest: {}, given up after {} ({half})", service.service, since(last)),
    })
}
