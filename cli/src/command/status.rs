//! `muster status`: how the fleet stands. What counts comes from the share; who is there, from the leader. Either may be
//! away: the other still answers.

use std::time::Duration;

use muster_coordinator::view::status::fill;
use muster_protocol::alert::Code;
use muster_protocol::units::{format_duration, format_size};

use crate::alerts::{self, AlertView};
use crate::args::Reading;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::screen;
use crate::scrub_view;
use crate::timetable::InWords;

pub(crate) use muster_coordinator::view::status::StatusView as View;

/// Shows it.
pub(crate) async fn run(args: Reading) -> Outcome {
    let Gathered { view, promised, unreadable } = gather(&args).await?;
    if args.json {
        screen::json(&view);
    } else {
        print(&view, promised);
    }
    unreadable.map_or(Ok(Exit::Done), Err)
}

/// What there is to know.
pub(crate) struct Gathered {
    pub(crate) view: View,
    /// The promised interval.
    pub(crate) promised: Option<Duration>,
    /// Why the share could not be read.
    pub(crate) unreadable: Option<Failure>,
}

/// Asks share and leader.
///
/// # Errors
/// When no configuration is found, or the share says something wrong; not when either is away.
pub(crate) async fn gather(args: &Reading) -> Result<Gathered, Failure> {
    let (name, share, leader, operator) = match &args.share {
        Some(url) => (String::new(), url.clone(), None, None),
        None => {
            let (folder, operator) = fleet::operator_at(args.config.as_deref())?;
            let heard = match Leader::connect(&operator).await {
                Ok(leader) => match leader.leader().await {
                    // A leader of an older version keeps no alerts: then the share tells them.
                    Ok(view) => Ok((view, leader.alerts(false).await.ok())),
                    Err(failure) => Err(failure),
                },
                Err(failure) => Err(failure),
            };
            let (name, share) = (operator.fleet.name.to_string(), operator.share.url.clone());
            (name, share, Some(heard), Some((folder, operator)))
        }
    };
    let mut view = View::unknown(name, share);
    let mut told = None;
    match leader {
        Some(Ok((leader, alerts))) => {
            view.leader = Some(leader);
            told = alerts.map(|(alerts, _)| alerts);
        }
        Some(Err(failure)) => {
            view.alerts.push(alerts::of_failure(Code::Bus01, "NATS", &failure));
            view.bus_error = Some(failure.to_string());
        }
        None => {}
    }
    let own = operator.as_ref().map(|(folder, operator)| (folder.as_path(), operator));
    let (promised, unreadable) = match Fleet::open(args).await {
        Ok(fleet) => {
            view.alerts.extend(alerts::judged(own, Some(&fleet)).await?);
            if told.is_none() {
                told = Some(alerts::of_share(&fleet, false).await?.0);
            }
            (fill(&fleet.shown(), &mut view).await?, None)
        }
        // A share that says something wrong is worse than one that says nothing.
        Err(failure) if failure.exit() != Exit::Unreachable => return Err(failure),
        Err(failure) => {
            view.alerts.extend(alerts::judged(own, None).await?);
            let code = failure.alert().unwrap_or(Code::Share01);
            view.alerts.push(alerts::of_failure(code, view.share.clone(), &failure));
            view.share_error = Some(failure.to_string());
            view.reasons.push("the share cannot be read".to_owned());
            (None, Some(failure))
        }
    };
    view.alerts.extend(told.iter().flatten().map(AlertView::from));
    Ok(Gathered { view, promised, unreadable })
}

fn print(view: &View, promised: Option<Duration>) {
    let leader = match &view.leader {
        Some(leader) => {
            let epoch = leader.epoch.map_or_else(|| "no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
            format!(
                "leader {} ({epoch}), {} of {} agents online",
                leader.coordinator, leader.online, leader.services
            )
        }
        None => "no leader answers".to_owned(),
    };
    let services = match view.recovery_ready {
        Some(_) => format!(" · {}", screen::plural(view.services.len(), "service")),
        None => String::new(),
    };
    screen::line(format!("{}{services} · share {} · {leader}", view.fleet, view.share));
    screen::line("");
    let age = |secs: u64| format_duration(Duration::from_secs(secs));
    let limit = promised.map_or_else(String::new, |most| format!(", promised {}", format_duration(most)));
    screen::line(match view.recovery_ready {
        None => format!("RECOVERY-READY   unknown: {}", view.reasons.join("; ")),
        Some(false) => format!("RECOVERY-READY   no: {}", view.reasons.join("; ")),
        Some(true) => {
            let oldest = view.services.iter().filter_map(|line| line.verified_age_secs).max();
            format!(
                "RECOVERY-READY   yes: {} verified, the oldest {} ago{limit}",
                screen::plural(view.services.len(), "service"),
                age(oldest.unwrap_or_default())
            )
        }
    });
    if let Some(times) = &view.schedule {
        if let Some(pause) = times.pause() {
            screen::line(format!("DISABLED         {}", pause.trim_start_matches("disabled").trim_start()));
        }
        screen::line(format!("NEXT ROUND       {}", times.next_round()));
    }
    if let Some(latest) = &view.latest {
        screen::line(format!(
            "LAST VERIFIED    round {}, {}, {} ago",
            latest.number,
            latest.outcome.unwrap_or_default(),
            age(latest.age_secs)
        ));
    }
    if let Some(leader) = &view.leader {
        for round in &leader.rounds {
            screen::line(format!(
                "OPEN ROUND       {}: {}, {} of {} stored, at most {} left",
                round.number,
                round.state,
                round.stored,
                round.services,
                age(round.remaining_secs)
            ));
        }
    }
    if let Some(queued) = view.leader.as_ref().map(|leader| leader.queued).filter(|queued| *queued > 0) {
        let requests = screen::plural(usize::try_from(queued).unwrap_or(usize::MAX), "request");
        screen::line(format!("QUEUED           {requests}: the services are in another round"));
    }
    if let Some(head) = &view.head {
        screen::line(format!("LOG HEAD         {}:{}", head.number, head.hash));
    }
    if let Some(free) = view.free_bytes {
        screen::line(format!("SHARE            {} free", format_size(free)));
    }
    view.scrub.iter().flat_map(scrub_view::lines).for_each(screen::line);
    if let Some(error) = &view.bus_error {
        screen::line(match view.share_error {
            None => "NATS             no answer; what is said here comes from the share alone",
            Some(_) => "NATS             no answer either",
        });
        screen::line(error);
    }
    for alert in view.alerts.iter().filter(|alert| alert.code != Code::Bus01.as_str()) {
        screen::line(format!("ALERT            {}", alert.line()));
    }
    if view.services.is_empty() {
        return;
    }
    screen::line("");
    let rows = view
        .services
        .iter()
        .map(|line| {
            vec![
                line.service.clone(),
                line.number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
                line.age_secs.map_or_else(|| "-".to_owned(), age),
                format_size(line.source_bytes),
                format_size(line.added_bytes),
                format_size(line.stored_bytes),
                line.state.clone(),
            ]
        })
        .collect();
    screen::lines(screen::table(&["service", "round", "age", "source", "added", "stored", "state"], rows));
}
