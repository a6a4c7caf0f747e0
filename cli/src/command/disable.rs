//! `muster disable`: no round begins any more, by schedule, message or command, until the fleet is enabled again or the pause is
//! over. `muster start --force` begins one all the same. Goes straight to the log; who leads follows at once.

use muster_protocol::schedule::{
    DISABLED_REASON, DISABLED_SINCE, DISABLED_UNTIL, ENABLED, NONE, OFF, rfc3339, until,
};
use serde::Serialize;

use crate::args::Disable;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::reason::Reason;
use crate::round_view::HeadView;
use crate::timetable::{self, InWords, Timetable};
use crate::{screen, sealed_files};

/// `{"schema":"muster.disable/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    schedule: Timetable,
    /// Rounds that were open go on.
    open_rounds: Vec<u64>,
    /// The record that says so now; null when it was so already.
    head: Option<HeadView>,
}

/// Does it.
pub(crate) async fn run(args: Disable) -> Outcome {
    let operator = fleet::operator(args.contact.config.as_deref())?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let admin = sealed_files::admin(fleet.state(), &operator)?;
    let now = screen::now();
    let clear = timetable::clear(fleet.state());
    let zone = timetable::value(&clear, "schedule.zone");
    let end = match &args.until {
        None => None,
        Some(text) => {
            let at = until(text, zone, now).map_err(|must| Failure::usage(format!("--until {must}")))?;
            rfc3339(at)
        }
    };
    let reason = args.reason.map(Reason::into_text);
    let began = rfc3339(now).unwrap_or_else(|| NONE.to_owned());
    let head = sealed_files::set(&mut fleet.log, &admin, |clear| {
        let before = clear.insert(ENABLED.to_owned(), "no".to_owned());
        // Off since `init`, by nobody's wish: `enable` sets the usual one. What somebody set it leaves.
        if before.is_none() && clear.get("schedule").is_some_and(|schedule| schedule == OFF) {
            clear.remove("schedule");
        }
        let disabled = before.as_deref() == Some("no");
        let over = muster_protocol::schedule::Standing::of(clear, now).refusal().is_none();
        // What was said of a pause that goes on holds until something else is said.
        let anew = !disabled || over || !clear.contains_key(DISABLED_SINCE);
        if anew {
            clear.insert(DISABLED_SINCE.to_owned(), began.clone());
        }
        for (key, said) in [(DISABLED_UNTIL, &end), (DISABLED_REASON, &reason)] {
            if anew || said.is_some() {
                clear.insert(key.to_owned(), said.clone().unwrap_or_else(|| NONE.to_owned()));
            }
        }
        Ok(())
    })
    .await?;
    fleet.remember()?;
    let times = Timetable::of(fleet.state(), now);
    let open: Vec<_> = fleet.state().open_rounds().iter().map(|round| round.open.number).collect();
    if args.contact.json {
        screen::json(&View {
            schema: "muster.disable/1",
            fleet: fleet.name(),
            schedule: times,
            open_rounds: open,
            head: head.map(|head| HeadView { number: head.number, hash: head.hash.to_string() }),
        });
        return Ok(Exit::Done);
    }
    let pause = times.pause().unwrap_or_default();
    screen::line(match head {
        Some(head) => {
            format!("{pause} · signed by {} · log record {}", operator.operator.name, head.number)
        }
        None => format!("{pause} (already)"),
    });
    for number in open {
        screen::line(format!("round {number} is open and goes on; muster cancel {number} ends it"));
    }
    screen::line("→ muster enable               lets rounds begin again");
    screen::line("→ muster start --force        begins one all the same");
    Ok(Exit::Done)
}
