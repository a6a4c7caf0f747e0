//! `muster enable`: everything that scheduled rounds need is tried; then rounds may begin, by schedule too. What fails leaves the
//! configuration as it was.

use std::collections::BTreeMap;

use muster_protocol::schedule::{DEFAULT, DISABLED_REASON, DISABLED_SINCE, DISABLED_UNTIL, ENABLED, OFF};
use muster_share::probe::Verdict;
use serde::Serialize;

use crate::args::Enable;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::finding::Finding;
use crate::fleet::{self, Fleet};
use crate::preflight;
use crate::round_view::HeadView;
use crate::timetable::{self, InWords, Timetable};
use crate::{screen, sealed_files};

/// `{"schema":"muster.enable/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    /// Nothing was changed, because nothing was to be.
    check: bool,
    /// Whether the preflight found nothing bad.
    passed: bool,
    findings: Vec<Finding>,
    schedule: Timetable,
    /// The record that says so now; null where nothing was changed.
    head: Option<HeadView>,
}

/// Does it.
pub(crate) async fn run(args: Enable) -> Outcome {
    let operator = fleet::operator(args.contact.config.as_deref())?;
    let mut fleet = match args.check {
        true => Fleet::of(operator.clone()).await?,
        false => Fleet::to_change(operator.clone()).await?,
    };
    // Whoever may not store it need not wait for the tests.
    let admin = match args.check {
        true => None,
        false => Some(sealed_files::admin(fleet.state(), &operator)?),
    };
    let mut wanted = timetable::clear(fleet.state());
    let schedule = enabled(&mut wanted);
    let json = args.contact.json;
    if !json {
        screen::line(format!("preflight of {}", fleet.name()));
    }
    let found = preflight::run(&operator, &fleet, &wanted).await;
    if !json {
        found.iter().for_each(|found| screen::line(found.finding.line(11)));
    }
    let bad = found.iter().find(|found| found.finding.verdict == Verdict::Bad);
    let (exit, failed) = bad.map_or((Exit::Done, None), |bad| (bad.exit, Some(bad.finding.clone())));
    let head = match (&admin, &failed) {
        (Some(admin), None) => {
            sealed_files::set(&mut fleet.log, admin, |clear| {
                let _said_below = enabled(clear);
                Ok(())
            })
            .await?
        }
        (_, _) => None,
    };
    fleet.remember()?;
    let times = Timetable::of(fleet.state(), screen::now());
    if json {
        screen::json(&View {
            schema: "muster.enable/1",
            fleet: fleet.name(),
            check: args.check,
            passed: failed.is_none(),
            findings: found.into_iter().map(|found| found.finding).collect(),
            schedule: times,
            head: head.map(|head| HeadView { number: head.number, hash: head.hash.to_string() }),
        });
        return Ok(exit);
    }
    if let Some(bad) = failed {
        let code = bad.code.map(|code| format!("{code}: ")).unwrap_or_default();
        let mut failure = Failure::new(exit, format!("{code}{} is not ready: {}", fleet.name(), bad.said))
            .because("The fleet is as it was before: the preflight changes nothing.");
        for step in bad.steps {
            failure = failure.next(step);
        }
        return Err(failure.next("muster enable --check   tests again"));
    }
    match head {
        _ if args.check => screen::line("it can be enabled; nothing was changed"),
        Some(head) => screen::line(format!(
            "enabled · signed by {} · log record {}",
            operator.operator.name, head.number
        )),
        None => screen::line("it is enabled already"),
    }
    match schedule {
        Schedule::AsSet => {}
        Schedule::Usual => screen::line(format!(
            "the schedule was off: rounds begin {DEFAULT}; muster config set schedule PATTERN sets another"
        )),
        Schedule::Off => screen::line(format!(
            "the schedule stays off, as it was: muster config set schedule {DEFAULT:?} lets rounds begin by themselves"
        )),
    }
    if !args.check {
        screen::line(format!("next round: {}", times.next_round()));
    }
    Ok(Exit::Done)
}

/// What becomes of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schedule {
    /// It is what somebody set.
    AsSet,
    /// It was off since `init`, and is the usual one now.
    Usual,
    /// It was off, and stays so.
    Off,
}

/// The settings of a fleet that is enabled: by its own schedule, or the usual one where nobody said anything of either yet.
fn enabled(clear: &mut BTreeMap<String, String>) -> Schedule {
    // `init` leaves it off. Whoever enabled or disabled the fleet since then was told what becomes of it.
    let never = !clear.contains_key(ENABLED);
    clear.insert(ENABLED.to_owned(), "yes".to_owned());
    for key in [DISABLED_REASON, DISABLED_SINCE, DISABLED_UNTIL] {
        clear.remove(key);
    }
    match clear.get("schedule").map(String::as_str) {
        Some(OFF) if !never => Schedule::Off,
        Some(OFF) | None => {
            clear.insert("schedule".to_owned(), DEFAULT.to_owned());
            Schedule::Usual
        }
        Some(_) => Schedule::AsSet,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Schedule, enabled};

    #[test]
    fn the_schedule_that_was_set_stays_and_the_pause_is_over() {
        let of = |pairs: &[(&str, &str)]| {
            let mut clear: BTreeMap<String, String> =
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let schedule = enabled(&mut clear);
            (clear, schedule)
        };
        let usual = |(clear, schedule): (BTreeMap<String, String>, Schedule)| {
            (clear["schedule"].clone(), schedule) == ("every 12h".to_owned(), Schedule::Usual)
        };
        assert!(usual(of(&[])) && usual(of(&[("schedule", "off")])) && usual(of(&[("enabled", "yes")])));
        for before in ["yes", "no"] {
            let (clear, schedule) = of(&[("schedule", "off"), ("enabled", before)]);
            assert_eq!((clear["schedule"].as_str(), schedule), ("off", Schedule::Off), "{before}");
        }
        let (paused, schedule) =
            of(&[("schedule", "0 3 * * *"), ("enabled", "no"), ("disabled.reason", "move")]);
        assert_eq!((paused["schedule"].as_str(), paused["enabled"].as_str()), ("0 3 * * *", "yes"));
        assert_eq!(schedule, Schedule::AsSet);
        assert!(!paused.contains_key("disabled.reason"));
    }
}
