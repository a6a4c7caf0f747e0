//! `muster recover`: a round from share and kit into a folder, with everything else dead.

mod failure;
mod missing;
mod report;
mod request;
mod view;

use std::time::Instant;

use muster_agent::recover::{Outcome as Recovered, RecoverError, Request, RoundError, Watch, recover};
use muster_share::layout::ObjectPath;
use muster_share::verify::Damage;

use self::failure::{explain, go_on, shortened};
use self::missing::lacking;
pub(crate) use self::request::workers;
use crate::args::Recover;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::reading_back::show_progress;
use crate::round_name::RoundName;
use crate::screen;

/// Recovers.
pub(crate) async fn run(args: Recover) -> Outcome {
    let (into, existing) = (args.into.clone(), args.existing);
    tokio::select! {
        outcome = recover_share(args) => outcome,
        _ = tokio::signal::ctrl_c() => {
            screen::aside(format!("interrupted: {} is not complete; {}", into.display(), go_on(existing)));
            Ok(Exit::Interrupted)
        }
    }
}

async fn recover_share(args: Recover) -> Outcome {
    let begun = Instant::now();
    let request = request::request(&args).await?;
    let watch = Watch::default();
    let mut announced = args.json;
    let title = || match watch.begun.get() {
        Some(begun) if !announced => {
            announced = true;
            Some(report::announce(begun, &request))
        }
        Some(_) | None => None,
    };
    let recovered = show_progress(recover(&request, &watch), &watch.progress, "recovering", title).await;
    let recovered = match recovered {
        Ok(recovered) => recovered,
        Err(error) => {
            if let (true, RecoverError::Round(RoundError::Damaged { number, damaged, newest_intact })) =
                (args.json, &error)
            {
                screen::json(&view::nothing(&request, *number, damaged, *newest_intact, begun.elapsed()));
            }
            return Err(explain(error, &args, &request).await);
        }
    };
    let missing = match lacking(&args, &request.from, &recovered).await {
        Ok(missing) => missing,
        Err(failure) => {
            screen::aside(format!("which services this round lacks cannot be told: {}", failure.what()));
            Vec::new()
        }
    };
    // Whoever names a round knows that it is not the fleet; `latest` promises all that there is.
    let short = args.round == RoundName::Latest && !missing.is_empty();
    let blocked = recovered.services.iter().any(|(_, outcome)| outcome.blocked > 0);
    let exit = match (recovered.damaged.is_empty(), recovered.absent.is_empty() && !short && !blocked) {
        (false, _) => Exit::Damaged,
        (true, false) => Exit::Partial,
        (true, true) => Exit::Done,
    };
    if args.json {
        screen::json(&view::view(&request, &recovered, &missing, exit, begun.elapsed()));
    } else {
        report::print(&request, &recovered, &missing, begun.elapsed());
    }
    // The round that was named came out whole; the share is not.
    if damaged_within(&request, &recovered).is_none()
        && let Some(shortened) = shortened(&request).await
    {
        return Err(shortened);
    }
    Ok(exit)
}

/// Whether something else is damaged than the log's end before the head that was noted.
fn damaged_within<'a>(request: &Request, recovered: &'a Recovered) -> Option<&'a Damage> {
    let slot = request.from.pin.head.map(|seen| ObjectPath::LogRecord(seen.head.number));
    recovered.damaged.iter().find(|damage| Some(&damage.object) != slot.as_ref())
}
