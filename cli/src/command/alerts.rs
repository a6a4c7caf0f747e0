//! `muster alerts`: what is wrong, since when, and what to do. The leader keeps the book; without one the share tells what
//! rounds say of their services.

use muster_coordinator::alerts::from_share;
use muster_protocol::alert::Alert;
use muster_protocol::message::{CommandState, Demand};
use muster_share::secret_file;
use serde::Serialize;

use crate::alerts::AlertView;
use crate::args::{AlertAction, Alerts};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::operator::Operator;
use crate::screen;

#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    /// Whether the leader answered. If not, only what the share tells is here.
    bus: bool,
    /// Alerts that found no place, because too many as bad or worse were open.
    passed_over: u64,
    alerts: Vec<AlertView>,
}

#[derive(Debug, Serialize)]
struct AckView<'a> {
    schema: &'static str,
    id: String,
    state: CommandState,
    reason: &'a str,
}

/// What is known of alerts, and whether the leader said it.
struct Known {
    alerts: Vec<Alert>,
    passed_over: u64,
    bus: bool,
}

/// Lists, shows or acknowledges them.
pub(crate) async fn run(args: Alerts) -> Outcome {
    let operator = fleet::operator(args.config.as_deref())?;
    match &args.action {
        None => {
            let mut known = known(&operator, args.all).await?;
            // What is worst comes first.
            known.alerts.sort_by_key(|alert| {
                (alert.closed.is_some(), std::cmp::Reverse(alert.code.severity()), alert.since)
            });
            list(&operator, known, args.json);
            Ok(Exit::Done)
        }
        Some(AlertAction::Show { id }) => {
            let known = known(&operator, true).await?;
            show(&operator, known, id, args.json)
        }
        Some(AlertAction::Ack { id }) => acknowledge(&operator, id, args.json).await,
    }
}

async fn known(operator: &Operator, closed: bool) -> Result<Known, Failure> {
    let heard = match Leader::connect(operator).await {
        Ok(leader) => leader.alerts(closed).await,
        Err(failure) => Err(failure),
    };
    let failure = match heard {
        Ok((alerts, passed_over)) => return Ok(Known { alerts, passed_over, bus: true }),
        Err(failure) => failure,
    };
    let fleet = Fleet::of(operator.clone()).await?;
    let book = from_share(fleet.log.store().as_ref(), fleet.state()).await?;
    screen::aside(format!("note: no leader answers ({}): only what the share tells is here", failure.what()));
    let old = book.history().filter(|_| closed);
    let alerts = book.open().chain(old).cloned().collect();
    Ok(Known { alerts, passed_over: book.passed_over(), bus: false })
}

fn list(operator: &Operator, known: Known, json: bool) {
    let alerts: Vec<AlertView> = known.alerts.iter().map(AlertView::from).collect();
    if json {
        return screen::json(&view(operator, &known, alerts));
    }
    if alerts.is_empty() {
        return screen::line("no alert is open");
    }
    let rows = known.alerts.iter().zip(&alerts).map(|(alert, view)| {
        vec![
            view.id.clone(),
            view.code.to_owned(),
            view.severity_word(),
            view.subject.clone(),
            screen::time(alert.since),
            alert.count.to_string(),
            state(alert),
            view.cause.clone(),
        ]
    });
    let headings = ["id", "code", "severity", "subject", "since", "count", "state", "cause"];
    screen::lines(screen::table(&headings, rows.collect()));
    if known.passed_over > 0 {
        screen::line(format!("{} more found no place", known.passed_over));
    }
    screen::line("muster alerts show ID says what to do");
}

fn view(operator: &Operator, known: &Known, alerts: Vec<AlertView>) -> View {
    View {
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
    let id = find(&known.alerts, id)?;
    let mut alerts: Vec<&Alert> = known.alerts.iter().filter(|alert| alert.id().to_string() == id).collect();
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.since));
    let views: Vec<AlertView> = alerts.iter().map(|alert| AlertView::from(*alert)).collect();
    if json {
        screen::json(&view(operator, &known, views));
        return Ok(Exit::Done);
    }
    for (alert, view) in alerts.iter().zip(&views) {
        screen::line(format!(
            "{} {} ({}): {}",
            view.code,
            view.subject,
            view.severity_word(),
            alert.code.title()
        ));
        screen::line(format!("  cause   {}", view.cause));
        let (since, last) = (screen::time(alert.since), screen::time(alert.last));
        screen::line(format!("  since   {since}, {} times, last {last}", alert.count));
        screen::line(format!("  state   {}", state(alert)));
        if alert.closed.is_none() {
            for step in &view.steps {
                screen::line(format!("  do      {step}"));
            }
        }
    }
    Ok(Exit::Done)
}

async fn acknowledge(operator: &Operator, id: &str, json: bool) -> Outcome {
    let fleet = Fleet::of(operator.clone()).await?;
    fleet.operator_may(operator, "acknowledge alerts")?;
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let leader = Leader::connect(operator).await?;
    let (alerts, _) = leader.alerts(false).await?;
    let id = find(&alerts, id)?;
    // The command names this very opening: recorded and sent again, it says nothing of a later one.
    let Some(alert) = alerts.iter().find(|alert| alert.id().to_string() == id) else {
        return Err(unknown(&id));
    };
    let demand = Demand::Acknowledge { alert: alert.reference().to_string() };
    let reply = leader.demand(&fleet, &signer, demand).await?;
    if json {
        screen::json(&AckView {
            schema: "muster.alerts.ack/1",
            id,
            state: reply.state,
            reason: &reply.reason,
        });
    } else {
        screen::line(&reply.reason);
    }
    Ok(match reply.state {
        CommandState::Done => Exit::Done,
        CommandState::Nothing | CommandState::Refused => Exit::Refused,
    })
}

/// The id that a prefix means.
fn find(alerts: &[Alert], prefix: &str) -> Result<String, Failure> {
    let mut ids: Vec<String> = alerts.iter().map(|alert| alert.id().to_string()).collect();
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
    Failure::new(Exit::Refused, format!("there is no alert {id}")).next("muster alerts --all")
}
