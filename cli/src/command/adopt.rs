//! `muster adopt`: the root accepts a share as it is, though heads above its own were seen, or though it is a copy. The one
//! way by which agents, coordinators and operators give up a head that they remember.

use std::sync::Arc;

use muster_protocol::entropy::random;
use muster_protocol::ids::Nonce;
use muster_protocol::log::{Adopt as Body, Pin, State};
use muster_share::entropy::OsEntropy;
use muster_share::log::{HeadMemory, Log};
use serde::Serialize;

use crate::args::Adopt;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{open_store, operator, share_at};
use crate::round_view::HeadView;
use crate::saying::{previous, root_key, say};
use crate::screen;

/// `{"schema":"muster.adopt/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    share: String,
    /// What was accepted.
    adopted: HeadView,
    /// The head since: the record that says so.
    head: HeadView,
    /// A head above that this operator had seen, and gives up.
    given_up: Option<HeadView>,
    /// The newest committed round of the adopted log.
    newest_round: Option<u64>,
}

/// Adopts.
pub(crate) async fn run(args: Adopt) -> Outcome {
    let operator = match &args.share {
        Some(_) => None,
        None => Some(operator(args.config.as_deref())?),
    };
    let share = match (&args.share, &operator) {
        (Some(url), _) => share_at(url)?,
        (None, Some(operator)) => operator.share.clone(),
        (None, None) => {
            return Err(
                Failure::usage("no share is named").next("name it with --share, --config or MUSTER_CONFIG")
            );
        }
    };
    let root = root_key(&args.root, operator.as_ref().map(|operator| &operator.fleet.root))?;
    let pin = Pin { root: Some(root.key_id()), fleet: operator.as_ref().map(|o| o.fleet.id), head: None };
    let mut log = Log::open(Arc::clone(&open_store(&share).await?), pin).await?;
    let accepted = log.head();
    if let Some(expect) = args.expect.expect_head.filter(|expect| *expect != accepted) {
        return Err(Failure::new(Exit::Refused, format!("the share stands at {accepted}, not at {expect}"))
            .because("Nothing was adopted.")
            .next("look at it again: muster rounds --share URL"));
    }
    let memory = operator.as_ref().map(|operator| HeadMemory::at(&operator.head_file()));
    let remembered = memory.as_ref().map(HeadMemory::recall).transpose()?.flatten();
    let name = Nonce::from_bytes(random(&mut OsEntropy));
    let make = |state: &State| {
        // Somebody still writes: what would be adopted is not what was looked at.
        if state.head != accepted {
            return Err(Failure::new(Exit::Refused, "another record came in while this was being adopted")
                .because("A coordinator is still at work on this share.")
                .next("stop every coordinator, then adopt"));
        }
        Ok(Body { previous: previous::<Body>(state), share: name, head: accepted, at: Some(screen::now()) })
    };
    let head = say::<Body>(&mut log, &root, make, |state| state.share == Some(name)).await?;
    if let (Some(memory), Some(operator)) = (&memory, &operator)
        && operator.operator.state.is_dir()
    {
        memory.remember(&log.seen())?;
    }
    let given_up = remembered.map(|seen| seen.head).filter(|seen| seen.number > accepted.number);
    let fleet = log.state().name.as_ref().map(ToString::to_string).unwrap_or_default();
    let newest_round = log.state().newest_recoverable().map(|round| round.open.number);
    if args.json {
        let view =
            |head: muster_protocol::log::Head| HeadView { number: head.number, hash: head.hash.to_string() };
        screen::json(&View {
            schema: "muster.adopt/1",
            fleet,
            share: share.url,
            adopted: view(accepted),
            head: view(head),
            given_up: given_up.map(view),
            newest_round,
        });
        return Ok(Exit::Done);
    }
    screen::line(format!("adopted {fleet} · {} · head {accepted}", share.url));
    if remembered.is_some() && given_up.is_none() {
        screen::line("given up: nothing; no record above this head was seen by this operator");
    }
    if let Some(seen) = given_up {
        screen::line(format!(
            "given up: records {} to {}, which were seen before; rounds that only they had are lost",
            accepted.number + 1,
            seen.number
        ));
    }
    screen::line(match newest_round {
        Some(number) => format!("newest committed round: {number}"),
        None => "it has no committed round".to_owned(),
    });
    screen::line(format!(
        "agents, coordinators and operators accept it from log record {} on; nobody need be told",
        head.number
    ));
    screen::line("next:");
    screen::line(
        "  → start coordinators and agents again: who runs still stands at the head that is given up",
    );
    screen::line("  → muster start --wait");
    screen::line(format!("note: write the new head down, away from the share: {head}"));
    screen::line("note: take the root key away again");
    Ok(Exit::Done)
}
