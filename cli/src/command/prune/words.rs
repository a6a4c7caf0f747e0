//! What `muster prune` tells people.

use std::time::Duration;

use muster_protocol::prune::{Kept, Next, Span, Wait};
use muster_protocol::units::{format_duration, format_size};
use muster_share::prune::{Locked, Plan, Renewed, Report, Survey, Tally};

use crate::fleet::Fleet;
use crate::screen;

/// Of a dry run.
pub(super) fn plan(fleet: &Fleet, plan: &Plan, grace: Duration) {
    screen::line(format!("{} · {} · nothing is changed: this only looks", fleet.name(), fleet.share.url));
    for reason in &plan.frozen {
        screen::line(format!("frozen       {reason}"));
        screen::line(format!("  ends by    {}", reason.ends()));
    }
    match plan.next {
        Next::Finish { sweep } => {
            screen::line(format!("a prune was interrupted: the sweep of log record {sweep} goes on"));
            going("would delete", &plan.survey);
        }
        Next::Sweep { mark } => {
            screen::line(format!("the time of the mark of log record {mark} has come"));
            going("would delete", &plan.survey);
        }
        Next::Wait { mark, why } => {
            waits(mark, why);
            going("due now", &plan.survey);
        }
        Next::Mark if plan.survey.is_worth_a_mark() => going("would mark", &plan.survey),
        Next::Mark => {
            screen::line("nothing is due");
            locked(plan.survey.locked);
        }
    }
    staying(&plan.survey);
    if !plan.frozen.is_empty() {
        return screen::line("→ muster prune     does nothing until that is over");
    }
    match plan.next {
        Next::Mark if plan.survey.is_worth_a_mark() => screen::line(format!(
            "→ muster prune     marks it; deleted is {} later, by another muster prune",
            format_duration(grace)
        )),
        Next::Finish { .. } | Next::Sweep { .. } => screen::line("→ muster prune     deletes it"),
        Next::Wait { .. } | Next::Mark => {}
    }
}

/// Of a run.
pub(super) fn report(fleet: &Fleet, report: &Report, renewed: Option<&Renewed>, grace: Duration) {
    if let Some(renewed) = renewed {
        let count = |n: u64| screen::plural(usize::try_from(n).unwrap_or(usize::MAX), "object");
        screen::line(format!(
            "locks        {} renewed, {} lasting",
            count(renewed.renewed),
            count(renewed.lasting)
        ));
    }
    for swept in &report.swept {
        let rounds = rounds(&swept.rounds);
        let again = if swept.resumed { ", which an earlier prune had begun" } else { "" };
        screen::line(format!(
            "deleted      {rounds}{} · sweep of log record {}{again}",
            tally(swept.deleted),
            swept.number
        ));
        locked(swept.locked);
        if !swept.kept_back.is_empty() {
            screen::line(format!(
                "kept back    {}: something that stays needs them",
                screen::plural(swept.kept_back.len(), "marked object")
            ));
        }
    }
    if let Some(marked) = &report.marked {
        going("marked", &marked.survey);
        staying(&marked.survey);
        screen::line(format!("log record {} · list lists/{}", marked.number, marked.list));
        screen::line(format!("→ muster prune     in {} or later deletes it", format_duration(grace)));
        if !marked.survey.going.is_empty() {
            screen::line("→ muster hold ROUND --reason TEXT     keeps one of these rounds");
        }
    }
    if let Some((mark, why)) = report.waits {
        waits(mark, why);
    }
    if report.marked.is_none() {
        locked(report.locked);
    }
    if report.swept.is_empty() && report.marked.is_none() && report.waits.is_none() {
        screen::line(format!("{} · nothing is due", fleet.name()));
    }
}

fn waits(mark: u64, why: Wait) {
    screen::line(match why {
        Wait::Round(number) => format!(
            "waiting      the mark of log record {mark}: round {number} was open when it was made, and still is"
        ),
        Wait::Grace { left } => {
            format!("waiting      the mark of log record {mark}: its grace ends in {}", format_duration(left))
        }
    });
}

/// What goes, by why it may.
fn going(verb: &str, survey: &Survey) {
    let numbers: Vec<u64> = survey.going.iter().map(|going| going.number).collect();
    let mut freed = Tally::default();
    for going in &survey.going {
        freed.objects += going.frees.objects;
        freed.bytes += going.frees.bytes;
    }
    let mut parts = Vec::new();
    if !numbers.is_empty() {
        parts.push(format!("{}{}", rounds(&numbers), tally(freed)));
    }
    for (part, what) in [
        (survey.orphans, "orphans"),
        (survey.configurations, "superseded configurations"),
        (survey.grants, "recovery grants"),
        (survey.lists, "lists of earlier prunes"),
    ] {
        if part.objects > 0 {
            parts.push(format!("{what}: {}", tally(part)));
        }
    }
    if parts.is_empty() {
        parts.push("nothing".to_owned());
    }
    screen::line(format!("{verb:<12} {}", parts.join(" · ")));
    if survey.more_rounds > 0 || survey.more_objects {
        screen::line("             more is due: it goes with the next prune");
    }
    locked(survey.locked);
    if survey.in_use.objects > 0 {
        screen::line(format!("in use       {}, perhaps by an open round", tally(survey.in_use)));
    }
    if survey.foreign > 0 {
        let names = screen::plural(usize::try_from(survey.foreign).unwrap_or(usize::MAX), "name");
        screen::line(format!("foreign      {names} that are not ours: never touched"));
    }
}

fn locked(locked: Locked) {
    if let Some(until) = locked.until {
        screen::line(format!(
            "kept         {} by a lock until {}: a later prune takes them",
            tally(locked.kept),
            screen::day(until)
        ));
    }
}

fn staying(survey: &Survey) {
    let count = |which: Kept| survey.staying.iter().filter(|(_, why)| *why == which).count();
    let words = [
        (Kept::Days, "by age"),
        (Kept::Last, "by number"),
        (Kept::Span(Span::Hour), "for an hour"),
        (Kept::Span(Span::Day), "for a day"),
        (Kept::Span(Span::Week), "for a week"),
        (Kept::Span(Span::Month), "for a month"),
        (Kept::Span(Span::Year), "for a year"),
        (Kept::Minimum, "for the minimum of verified rounds"),
        (Kept::Held, "held"),
        (Kept::Open, "open"),
    ];
    let reasons: Vec<String> = words
        .iter()
        .filter(|(why, _)| count(*why) > 0)
        .map(|(why, words)| format!("{} {words}", count(*why)))
        .collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    screen::line(format!(
        "stays        {}{reasons}, {}",
        screen::plural(survey.staying.len(), "round"),
        tally(survey.kept)
    ));
}

fn tally(tally: Tally) -> String {
    let objects = screen::plural(usize::try_from(tally.objects).unwrap_or(usize::MAX), "object");
    format!("{objects}, {}", format_size(tally.bytes))
}

/// `rounds 1–3, 7: `; nothing where there are none.
fn rounds(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            Some(_) | None => runs.push((*number, *number)),
        }
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}–{last}") })
        .collect();
    match numbers.len() {
        0 => String::new(),
        1 => format!("round {}: ", runs.join(", ")),
        _ => format!("rounds {}: ", runs.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::rounds;

    #[test]
    fn numbers_are_told_in_runs() {
        assert_eq!(rounds(&[]), "");
        assert_eq!(rounds(&[4]), "round 4: ");
        assert_eq!(rounds(&[1, 2, 3, 7, 9, 10]), "rounds 1–3, 7, 9–10: ");
    }
}
