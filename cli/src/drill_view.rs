//! Drills, for people.

use std::time::Duration;

use muster_coordinator::view::drill::DrillView;
use muster_protocol::units::format_duration;

fn secs(secs: u64) -> String {
    format_duration(Duration::from_secs(secs))
}

/// Behind the line that says whether the fleet could be recovered: `, drill passed 5 days ago in 11 min`.
pub(crate) fn passed(drill: Option<&DrillView>) -> String {
    let last = drill.and_then(|drill| drill.last.as_ref()).filter(|last| last.outcome == "passed");
    last.map_or_else(String::new, |last| {
        let took = format_duration(Duration::from_millis(last.took_millis));
        format!(", drill passed {} ago in {took}", secs(last.age_secs))
    })
}

/// What else there is to say; none: nothing.
pub(crate) fn line(drill: &DrillView) -> Option<String> {
    let Some(last) = &drill.last else {
        let within = drill.within_secs?;
        return Some(format!(
            "none yet, one in each {} is promised: muster drill --kit PATH recovers into a folder that is deleted again",
            secs(within)
        ));
    };
    let ago = format!("{} ago, by {}", secs(last.age_secs), last.by);
    if let Some(complaint) = drill.failure.as_ref().or(drill.complaint.as_ref()) {
        return Some(format!("{complaint} ({ago})"));
    }
    let took = format_duration(Duration::from_millis(last.took_millis));
    let mut line = format!("round {} came out whole in {took} ({ago})", last.number);
    if let Some(expected) = drill.expected_secs {
        let about =
            if expected == 0 { "less than a second".to_owned() } else { format!("about {}", secs(expected)) };
        line.push_str(&format!("; at today's size {about}"));
    }
    if let Some(promised) = drill.promised_secs {
        let short =
            if drill.expected_secs.is_some_and(|expected| expected > promised) { "ONLY " } else { "" };
        line.push_str(&format!(", {short}{} promised", secs(promised)));
    }
    if let Some(within) = drill.within_secs.filter(|within| last.age_secs > *within) {
        line.push_str(&format!(
            "; OVERDUE: one in each {} is promised: muster drill --kit PATH",
            secs(within)
        ));
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::{line, passed};
    use muster_coordinator::view::drill::{Drill, DrillView};

    #[test]
    fn each_case_has_its_words() {
        let mut view = DrillView {
            promised_secs: None,
            within_secs: None,
            last: None,
            expected_secs: None,
            failure: None,
            complaint: None,
        };
        assert_eq!((passed(Some(&view)), line(&view)), (String::new(), None));
        view.within_secs = Some(90 * 86_400);
        assert!(line(&view).is_some_and(|line| line.starts_with("none yet, one in each 90 days")));
        view.last = Some(Drill {
            round: String::new(),
            number: 12,
            outcome: "passed",
            reason: None,
            at: String::new(),
            age_secs: 5 * 86_400,
            took_millis: 660_000,
            files: 1,
            source_bytes: 1,
            by: "operator".to_owned(),
        });
        assert_eq!(passed(Some(&view)), ", drill passed 5 days ago in 11 min");
        let whole = "round 12 came out whole in 11 min (5 days ago, by operator)";
        assert_eq!(line(&view).as_deref(), Some(whole));
        (view.promised_secs, view.expected_secs) = (Some(3_600), Some(720));
        let fine = format!("{whole}; at today's size about 12 min, 1 h promised");
        assert_eq!(line(&view), Some(fine));
        view.expected_secs = Some(7_200);
        assert!(line(&view).is_some_and(|line| line.ends_with("about 2 h, ONLY 1 h promised")));
        view.within_secs = Some(86_400);
        assert!(line(&view).is_some_and(|line| line.contains("; OVERDUE: one in each 24 h")));
        view.failure = Some("the drill of round 12 failed: x".to_owned());
        assert_eq!(line(&view).as_deref(), Some("the drill of round 12 failed: x (5 days ago, by operator)"));
    }
}
