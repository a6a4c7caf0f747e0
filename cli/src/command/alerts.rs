//! `muster alerts`: what is wrong, since when, and what to do. The leader keeps the book; without one the share tells what
//! rounds say of their services.

mod accept;

use std::path::Path;
use std::str::FromStr;

use muster_coordinator::view::acts::AckView;
use muster_coordinator::view::alerts::{AlertsView, sort};
use muster_protocol::alert::{Alert, ClosedBy, Code};
use muster_protocol::message::{CommandState, Demand};
use muster_share::secret_file;

use crate::alerts::{self, AlertView};
use crate::args::{AlertAction, Alerts};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::operator::Operator;
use crate::screen;

/// What is known of alerts, and whether the leader said it.
struct Known {
    alerts: Vec<Alert>,
    /// What is judged here, and in no book.
    judged: Vec<AlertView>,
    passed_over: u64,
    bus: bool,
}

/// Lists, shows or acknowledges them.
pub(crate) async fn run(args: Alerts) -> Outcome {
    let (folder, operator) = fleet::operator_at(args.config.as_deref())?;
    match &args.action {
        None => {
            let mut known = known(&folder, &operator, args.all).await?;
            // What is worst comes first.
            sort(&mut known.alerts);
            list(&operator, known, args.json);
            Ok(Exit::Done)
        }
        Some(AlertAction::Show { id }) => {
            let known = known(&folder, &operator, true).await?;
            show(&operator, known, id, args.json)
        }
        Some(AlertAction::Accept { service, reason }) => {
            accept::run(operator, service, reason.as_str(), args.json).await
        }
        Some(AlertAction::Ack { id }) => acknowledge(&folder, &operator, id, args.json).await,
    }
}

async fn known(folder: &Path, operator: &Operator, closed: bool) -> Result<Known, Failure> {
    let heard = match Leader::connect(operator).await {
        Ok(leader) => leader.alerts(closed).await,
        Err(failure) => Err(failure),
    };
    let fleet = Fleet::of(operator.clone()).await;
    let own = Some((folder, operator));
    let failure = match heard {
        Ok((alerts, passed_over)) => {
            // The leader knows what is wrong with the share.
            let judged = alerts::judged(own, fleet.as_ref().ok()).await?;
            return Ok(Known { alerts, judged, passed_over, bus: true });
        }
        Err(failure) => failure,
    };
    let fleet = fleet?;
    let (alerts, passed_over) = alerts::of_share(&fleet, closed).await?;
    let mut judged = alerts::judged(own, Some(&fleet)).await?;
    judged.push(alerts::of_failure(Code::Bus01, "NATS", &failure));
    screen::aside(format!("note: no leader answers ({}): only what the share tells is here", failure.what()));
    Ok(Known { alerts, judged, passed_over, bus: false })
}

fn list(operator: &Operator, known: Known, json: bool) {
    let alerts: Vec<AlertView> =
        known.judged.iter().cloned().chain(known.alerts.iter().map(AlertView::from)).collect();
    if json {
        return screen::json(&view(operator, &known, alerts));
    }
    if alerts.is_empty() {
        return screen::line("no alert is open");
    }
    let row = |view: &AlertView, since: String, state: String| {
        vec![
            view.id.clone(),
            view.code.to_owned(),
            view.severity_word(),
            view.subject.clone(),
            since,
            view.count.to_string(),
            state,
            view.cause.clone(),
        ]
    };
    let judged = known.judged.iter().map(|view| row(view, "now".to_owned(), "open".to_owned()));
    let kept = known.alerts.iter().map(|alert| {
        let view = AlertView::from(alert);
        row(&view, screen::time(alert.since), state(alert))
    });
    let rows: Vec<_> = judged.chain(kept).collect();
    let headings = ["id", "code", "severity", "subject", "since", "count", "state", "cause"];
    screen::lines(screen::table(&headings, rows));
    if known.passed_over > 0 {
        screen::line(format!("{} more found no place", known.passed_over));
    }
    screen::line("muster alerts show ID says what to do");
}

fn view(operator: &Operator, known: &Known, alerts: Vec<AlertView>) -> AlertsView {
    AlertsView {
        schema: "muster.alerts/1",
        fleet: operator.fleet.name.to_string(),
        bus: known.bus,
        passed_over: known.passed_over,
        alerts,
    }
}

fn state(alert: &Alert) -> String {
    match (&alert.closed, &alert.acknowledged) {
        (Some(at), _) => format!("closed {}", screen::time(*at)),
        (None, Some(acknowledged)) => format!("seen by {}", acknowledged.by),
        (None, None) => "open".to_owned(),
    }
}

/// Every opening of the alert that is meant, the newest first.
fn show(operator: &Operator, known: Known, id: &str, json: bool) -> Outcome {
    let judged = known.judged.iter().map(|view| view.id.clone());
    let id = find(known.alerts.iter().map(|alert| alert.id().to_string()).chain(judged), id)?;
    let here: Vec<&AlertView> = known.judged.iter().filter(|view| view.id == id).collect();
    let mut alerts: Vec<&Alert> = known.alerts.iter().filter(|alert| alert.id().to_string() == id).collect();
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.since));
    let views: Vec<AlertView> = alerts.iter().map(|alert| AlertView::from(*alert)).collect();
    if json {
        let views = here.into_iter().cloned().chain(views).collect();
        screen::json(&view(operator, &known, views));
        return Ok(Exit::Done);
    }
    for view in here {
        head(view);
        screen::line("  since   judged just now, on this machine");
        steps(view);
    }
    for (alert, view) in alerts.iter().zip(&views) {
        head(view);
        let (since, last) = (screen::time(alert.since), screen::time(alert.last));
        screen::line(format!("  since   {since}, {} times, last {last}", alert.count));
        for line in history(alert) {
            screen::line(format!("  {line}"));
        }
        if alert.closed.is_none() {
            steps(view);
        }
    }
    Ok(Exit::Done)
}

fn head(view: &AlertView) {
    let title = Code::from_str(view.code).map_or("", Code::title);
    screen::line(format!("{} {} ({}): {title}", view.code, view.subject, view.severity_word()));
    screen::line(format!("  cause   {}", view.cause));
}

fn steps(view: &AlertView) {
    for step in &view.steps {
        screen::line(format!("  do      {step}"));
    }
}

/// Who knows of it, and what closed it.
fn history(alert: &Alert) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(seen) = &alert.acknowledged {
        lines.push(format!("seen    by {}, {}", seen.by, screen::time(seen.at)));
    }
    let Some(at) = alert.closed else {
        lines.push("state   open".to_owned());
        return lines;
    };
    let accepted = alert.accepted_by.as_ref().map(|by| format!(": accepted by {by}"));
    let by = match alert.closed_by {
        Some(ClosedBy::Mended) if accepted.is_some() => accepted.unwrap_or_default(),
        Some(ClosedBy::Mended) => ": it was seen to be mended".to_owned(),
        Some(ClosedBy::Round(number)) => format!(": by round {number}"),
        Some(ClosedBy::Acknowledgement) => ": by the acknowledgement".to_owned(),
        Some(ClosedBy::Quiet) => ": it did not happen again".to_owned(),
        Some(ClosedBy::Gone) => ": what it is about is no more".to_owned(),
        // Kept by an older version.
        None => String::new(),
    };
    lines.push(format!("closed  {}{by}", screen::time(at)));
    lines
}

async fn acknowledge(folder: &Path, operator: &Operator, id: &str, json: bool) -> Outcome {
    let fleet = Fleet::to_change(operator.clone()).await?;
    fleet.operator_may(operator, "acknowledge alerts")?;
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let judged = alerts::judged(Some((folder, operator)), Some(&fleet)).await?;
    if let Some(alert) = judged.iter().find(|alert| !id.is_empty() && alert.id.starts_with(id)) {
        let what = format!("{} of {} is in no book: it is judged anew each time", alert.code, alert.subject);
        let failure = Failure::new(Exit::Refused, what).because("It is gone as soon as its cause is.");
        return Err(alert.steps.iter().fold(failure, |failure, step| failure.next(step.clone())));
    }
    let leader = Leader::connect(operator).await?;
    let (alerts, _) = leader.alerts(false).await?;
    let id = find(alerts.iter().map(|alert| alert.id().to_string()), id)?;
    // The command names this very opening: recorded and sent again, it says nothing of a later one.
    let Some(alert) = alerts.iter().find(|alert| alert.id().to_string() == id) else {
        return Err(unknown(&id));
    };
    let demand = Demand::Acknowledge { alert: alert.reference().to_string() };
    let reply = leader.demand(&fleet, &signer, demand).await?;
    if json {
        screen::json(&AckView::of(&reply, id));
    } else {
        screen::line(&reply.reason);
    }
    Ok(match reply.state {
        CommandState::Done => Exit::Done,
        CommandState::Nothing | CommandState::Refused => Exit::Refused,
    })
}

/// The id that a prefix means.
fn find(ids: impl Iterator<Item = String>, prefix: &str) -> Result<String, Failure> {
    let mut ids: Vec<String> = ids.collect();
    ids.retain(|id| !prefix.is_empty() && id.starts_with(prefix));
    ids.sort();
    ids.dedup();
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(unknown(prefix)),
        [_, _, ..] => Err(Failure::usage(format!("{prefix} begins the ids of {} alerts", ids.len()))
            .next("muster alerts --all")),
    }
}

fn unknown(id: &str) -> Failure {
    Failure::usage(format!("there is no alert {id}")).next("muster alerts --all names them")
}
