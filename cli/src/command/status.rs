//! `muster status`: how the fleet stands. What counts comes from the share; who is there, from the leader. Either may be
//! away: the other still answers.

mod words;

use std::time::Duration;

use muster_coordinator::view::status::fill;
use muster_protocol::alert::Code;

use crate::alerts::{self, AlertView};
use crate::args::Reading;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::screen;

pub(crate) use muster_coordinator::view::status::StatusView as View;

/// Shows it.
pub(crate) async fn run(args: Reading) -> Outcome {
    let Gathered { view, promised, unreadable } = gather(&args).await?;
    if args.json {
        screen::json(&view);
    } else {
        words::print(&view, promised);
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
        // A share that says something wrong is worse than one that says nothing. Where there is none, as in the folder of a mount
        // that is gone, the leader still tells what is.
        Err(failure) if failure.exit() != Exit::Unreachable && failure.alert() != Some(Code::Share02) => {
            return Err(failure);
        }
        Err(failure) => {
            view.alerts.extend(alerts::judged(own, None).await?);
            let code = failure.alert().unwrap_or(Code::Share01);
            view.alerts.push(alerts::of_failure(code, view.share.clone(), &failure));
            view.share_error = Some(failure.to_string());
            view.reasons.push("the share cannot be read".to_owned());
            (None, Some(failure))
        }
    };
    view.tell(told.iter().flatten().map(AlertView::from));
    Ok(Gathered { view, promised, unreadable })
}
