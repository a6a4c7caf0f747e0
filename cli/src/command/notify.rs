//! `muster notify test`: whether people are told of alerts. The leader sends a test over its channels, because only it knows their
//! secrets, and tells what each of the other sides answered.

use std::time::Duration;

use muster_coordinator::query::ChannelView;
use muster_protocol::entropy::random;
use muster_protocol::ids::{ChannelName, Nonce};
use muster_protocol::message::{CommandState, Demand};
use muster_share::entropy::OsEntropy;
use muster_share::secret_file;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::args::{Notify, NotifyAction};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::screen;

/// Longest wait for the other sides: a little more than the leader gives each of them.
const LIMIT: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(250);

/// `{"schema":"muster.notify.test/1", …}`
#[derive(Debug, Serialize)]
struct View<'a> {
    schema: &'static str,
    fleet: &'a str,
    channels: Vec<Tested>,
}

#[derive(Debug, Serialize)]
struct Tested {
    channel: String,
    kind: String,
    /// Where its messages go, up to the host.
    place: String,
    delivered: bool,
    /// What the other side answered, or why it was not delivered.
    said: String,
}

/// Tests.
pub(crate) async fn run(args: Notify) -> Outcome {
    let NotifyAction::Test { channel } = &args.action;
    let operator = fleet::operator(args.config.as_deref())?;
    let fleet = Fleet::of(operator.clone()).await?;
    fleet.operator_may(&operator, "test the notifications")?;
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let leader = Leader::connect(&operator).await?;
    let request = Nonce::from_bytes(random(&mut OsEntropy)).to_string();
    let demand = Demand::TestNotification { request: request.clone(), channel: channel.clone() };
    let reply = leader.demand(&fleet, &signer, demand).await?;
    match reply.state {
        CommandState::Done => {}
        CommandState::Nothing => return Err(no_channel(reply.reason, channel.as_ref())),
        CommandState::Refused => return Err(Failure::new(Exit::Refused, reply.reason)),
    }
    let tested = results(&leader, &request, channel.as_ref()).await?;
    let all = tested.iter().all(|tested| tested.delivered);
    if args.json {
        let fleet = operator.fleet.name.as_str();
        screen::json(&View { schema: "muster.notify.test/1", fleet, channels: tested });
    } else {
        let row = |t: &Tested| {
            let mark = if t.delivered { "ok" } else { "FAILED" };
            vec![t.channel.clone(), t.kind.clone(), t.place.clone(), mark.to_owned(), t.said.clone()]
        };
        let headings = ["channel", "kind", "place", "test", "answer"];
        screen::lines(screen::table(&headings, tested.iter().map(row).collect()));
    }
    Ok(if all { Exit::Done } else { Exit::Failed })
}

fn no_channel(reason: String, channel: Option<&ChannelName>) -> Failure {
    Failure::usage(reason).next(match channel {
        Some(_) => "muster notify test names all channels",
        None => "write a [[notify]] into coordinator.toml and start the coordinator again; docs/notifications.md has examples",
    })
}

/// What came of the test with this id. Another leader that took over meanwhile knows nothing of it.
async fn results(
    leader: &Leader,
    request: &str,
    wanted: Option<&ChannelName>,
) -> Result<Vec<Tested>, Failure> {
    let began = Instant::now();
    loop {
        let mut channels = leader.channels().await?;
        channels.retain(|channel| wanted.is_none_or(|name| *name == channel.channel));
        let results: Option<Vec<Tested>> = channels.iter().map(|channel| result(channel, request)).collect();
        match results {
            Some(results) if !results.is_empty() => return Ok(results),
            Some(_) | None if began.elapsed() < LIMIT => sleep(LOOK).await,
            Some(_) | None => {
                let late =
                    |channel: ChannelView| result(&channel, request).unwrap_or_else(|| unknown(channel));
                return Ok(channels.into_iter().map(late).collect());
            }
        }
    }
}

fn result(channel: &ChannelView, request: &str) -> Option<Tested> {
    let test = channel.test.as_ref().filter(|test| test.request == request)?;
    Some(Tested {
        channel: channel.channel.to_string(),
        kind: channel.kind.clone(),
        place: channel.place.clone(),
        delivered: test.delivered?,
        said: test.said.clone().unwrap_or_default(),
    })
}

fn unknown(channel: ChannelView) -> Tested {
    Tested {
        channel: channel.channel.to_string(),
        kind: channel.kind,
        place: channel.place,
        delivered: false,
        said: format!("nothing was heard of it within {} s", LIMIT.as_secs()),
    }
}
