//! How `verify` says what is whole, what is not, and what is not there at all.

use std::collections::BTreeSet;

use muster_protocol::ids::ServiceName;
use muster_share::verify::{Ledger, Report};

use crate::reading_back::round_ranges;
use crate::screen;

/// What becomes of rounds that are damaged and no longer needed. Of services that no round holds there is no slice to be whole.
pub(super) fn outlived(old: &BTreeSet<u64>, missing: &[String]) -> Vec<String> {
    let stay = if old.len() == 1 { "stays" } else { "stay" };
    let (whose, of) = match missing {
        [] => ("every service", "nothing need be done"),
        _ => ("every service that is in them", "nothing need be done about the damage"),
    };
    let mut lines = vec![
        format!("{} {stay} damaged; the newest slice of {whose} is whole", round_ranges(old)),
        format!(
            "→ {of}: retention lets damaged rounds go like all others. To have them whole again, bring the objects back from a \
             copy of the share"
        ),
    ];
    if !missing.is_empty() {
        let names = missing.join(",");
        lines.push(format!(
            "→ muster start --services {names} --wait   stores what none of these rounds holds"
        ));
    }
    lines
}

/// `1 of 2 services is whole`
pub(super) fn whole_of(whole: usize, all: usize) -> String {
    let verb = if whole == 1 { "is" } else { "are" };
    format!("{whole} of {} {verb} whole", screen::plural(all, "service"))
}

/// Services of the roster that none of the checked rounds holds.
pub(super) fn missing(ledger: &Ledger, report: &Report) -> Vec<String> {
    let checked = |service: &ServiceName| report.services.iter().any(|found| found.service == *service);
    let roster = ledger.state.services();
    roster.into_iter().filter(|service| !checked(service)).map(|service| service.to_string()).collect()
}

pub(super) fn say_missing(rounds: u64, missing: &[String]) {
    if !missing.is_empty() {
        screen::line(format!(
            "not in {}: {}   (muster status names the newest round of each)",
            if rounds == 1 { "this round" } else { "any of these rounds" },
            missing.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{outlived, whole_of};

    #[test]
    fn what_is_damaged_and_outlived_says_nothing_good_of_what_was_never_stored() {
        let old = BTreeSet::from([1]);
        let all = outlived(&old, &[]).join("\n");
        assert!(
            all.contains("slice of every service is whole") && all.contains("→ nothing need be done:"),
            "{all}"
        );
        let some = outlived(&old, &["mail".to_owned(), "web".to_owned()]).join("\n");
        assert!(
            !some.contains("every service is whole") && !some.contains("nothing need be done:"),
            "{some}"
        );
        assert!(some.contains("muster start --services mail,web --wait"), "{some}");
    }

    #[test]
    fn services_are_counted_over_the_whole_roster() {
        assert_eq!(whole_of(1, 1), "1 of 1 service is whole");
        assert_eq!(whole_of(1, 3), "1 of 3 services is whole");
        assert_eq!(whole_of(2, 2), "2 of 2 services are whole");
    }
}
