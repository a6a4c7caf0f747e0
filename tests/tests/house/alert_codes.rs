//! The walk over all alert codes: each is raised and closed in a test that is named here. A new code does not compile before it has
//! its line, and a line without such a test fails.

use std::fs;

use muster_protocol::alert::Code;

use super::{assert_none, root};

/// Which test shows that a code is raised, and closes again: in this file, that one.
struct By(&'static str, &'static str);

const ROUNDS: &str = "protocol/src/alert/tests.rs";
const PRUNE: &str = "protocol/src/alert/prune.rs";
const BOOK: &str = "coordinator/src/alerts/tests.rs";
const LEADER: &str = "coordinator/src/daemon/tests/alerts.rs";

fn shown(code: Code) -> By {
    match code {
        Code::Share01 | Code::Share02 | Code::Share03 | Code::Share07 => {
            By(BOOK, "what_the_share_does_not_do_is_told_until_it_answers")
        }
        Code::Share04 | Code::Share05 => {
            By(LEADER, "a_share_that_takes_no_record_is_told_until_it_takes_one")
        }
        Code::Share06 => By("protocol/src/room/tests.rs", "a_forecast_wavers_and_the_alert_does_not"),
        Code::Share08 => {
            By(LEADER, "a_coordinator_that_cannot_believe_the_log_keeps_that_until_it_leads_again")
        }
        Code::Share09 => By(PRUNE, "a_prune_that_does_not_go_on_is_told_until_it_does"),
        Code::Key01 | Code::Agent02 | Code::Agent04 | Code::Round02 => {
            By(ROUNDS, "what_a_round_told_of_a_service_is_over_with_a_later_verified_slice")
        }
        Code::Key02 => By("protocol/src/alert/keys.rs", "old_recovery_keys_are_told_until_they_are_rotated"),
        Code::Key03 => By(ROUNDS, "events_end_by_quiet_or_by_acknowledgement_and_conditions_by_neither"),
        Code::Agent01 => By(LEADER, "a_silent_agent_is_one_alert_through_restarts_until_it_is_heard"),
        Code::Agent03 | Code::Round01 => By(ROUNDS, "a_partial_round_opens_and_a_later_verified_one_closes"),
        Code::Agent05 => By(LEADER, "what_is_none_of_ours_is_counted_by_reason_and_told"),
        Code::Agent06 => By(LEADER, "an_agent_whose_clock_is_wrong_is_told_until_it_is_right"),
        Code::Round03 => By(LEADER, "a_request_that_is_skipped_is_told_until_somebody_knows"),
        Code::Round04 => By(ROUNDS, "a_promise_that_was_broken_is_kept_again_by_a_verified_round"),
        Code::Round05 => {
            By(ROUNDS, "a_broken_cut_is_over_once_its_services_are_in_rounds_without_a_broken_one")
        }
        Code::Round06 => {
            By("protocol/src/anomaly/tests.rs", "a_service_that_stands_out_is_one_alert_until_it_does_not")
        }
        Code::Cover01 => By(ROUNDS, "a_service_without_a_slice_is_told_until_a_verified_round_holds_one"),
        Code::Verify01 => By(
            "tests/tests/fleet/healing.rs",
            "what_verify_finds_is_healed_by_the_next_round_and_prune_waits_for_it",
        ),
        Code::Verify02 => By(ROUNDS, "a_swept_round_tells_nothing_and_what_was_about_it_is_over"),
        Code::Drill01 => By(
            "protocol/src/alert/drill.rs",
            "a_drill_that_failed_was_slow_or_is_overdue_is_told_until_a_better_one",
        ),
        Code::Ret01 => By(PRUNE, "too_few_verified_rounds_are_told_until_there_are_enough"),
        Code::Bus01 => By(
            "coordinator/src/publisher.rs",
            "what_the_server_does_not_take_is_told_until_it_takes_everything",
        ),
        Code::Coord01 => {
            By(BOOK, "an_event_that_has_been_quiet_for_long_enough_is_over_without_anybodys_doing")
        }
        Code::Sec01 => By(LEADER, "only_an_operator_acknowledges_and_the_same_words_again_say_nothing"),
        Code::Notify01 => By(
            "tests/tests/fleet/notifications/failing.rs",
            "a_dead_channel_is_told_over_the_others_and_says_everything_once_it_is_back",
        ),
        Code::Sched01 => By(ROUNDS, "a_fleet_that_is_disabled_or_has_no_schedule_is_told_until_it_is_not"),
    }
}

#[test]
fn every_alert_code_is_raised_and_closed_in_a_test() {
    let mut objections = Vec::new();
    for code in Code::ALL {
        let By(file, test) = shown(*code);
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        objections.extend(unshown(*code, &text, test).map(|why| format!("{code}: {file}: {test} {why}")));
    }
    assert_none(&objections);
}

/// Whoever reads the table finds every code, and when it is raised.
#[test]
fn the_page_tells_of_every_code_when_it_is_raised() {
    let page = fs::read_to_string(root().join("docs/alerts.md")).expect("the page of alerts");
    assert_none(&untold(&page));
    let others = page.replacen("| ROUND-06 | error |", "| ROUND-06 | error | – |", 1);
    assert_eq!(untold(&others).len(), 1, "a code that nothing raises");
    let others = page.replacen("| DRILL-01 |", "| DRILL-00 |", 1);
    assert_eq!(untold(&others).len(), 1, "a code that is not there");
}

fn untold(page: &str) -> Vec<String> {
    let row = |code: &Code| page.lines().find(|line| line.starts_with(&format!("| {code} |")));
    let is_untold = |code: &&Code| row(code).is_none_or(|row| row.contains("| – |"));
    let untold = Code::ALL.iter().filter(is_untold);
    untold.map(|code| format!("docs/alerts.md: nobody learns when {code} is raised")).collect()
}

/// Why this test of `text` shows nothing of the code.
fn unshown(code: Code, text: &str, test: &str) -> Option<&'static str> {
    let lines: Vec<&str> = text.lines().collect();
    let declares = |line: &str| {
        let line = line.trim_start().trim_start_matches("async ");
        line.strip_prefix("fn ").is_some_and(|rest| rest.starts_with(&format!("{test}(")))
    };
    let Some(at) = lines.iter().position(|line| declares(line)) else { return Some("is not there") };
    let attributes: Vec<&str> =
        lines[..at].iter().rev().map(|line| line.trim()).take_while(|line| line.starts_with('#')).collect();
    if !attributes.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test")) {
        return Some("is no test");
    }
    // Tests with servers of their own are run apart, by their name.
    if attributes.iter().any(|line| line.starts_with("#[ignore")) && !test.starts_with("servers_") {
        return Some("is ignored");
    }
    // Rustfmt closes a function at its own indentation.
    let indentation = lines[at].len() - lines[at].trim_start().len();
    let end = format!("{}}}", " ".repeat(indentation));
    let body: Vec<&str> = lines[at..].iter().take_while(|line| **line != end).copied().collect();
    let (variant, word) = (format!("Code::{code:?}"), code.as_str());
    let named = |line: &&str| line.contains(&variant) || line.contains(word);
    if body.iter().any(named) { None } else { Some("does not name the code") }
}

#[test]
fn the_walk_objects_to_what_it_is_for() {
    let code = Code::Agent01;
    let test = |above: &str, body: &str| {
        format!("{above}\nasync fn it_is_told(\n) {{\n    {body}\n}}\nCode::Agent01\n")
    };
    let found = |above: &str, body: &str| unshown(code, &test(above, body), "it_is_told");
    assert_eq!(found("#[tokio::test(flavor = \"multi_thread\")]", "raise(Code::Agent01)"), None);
    assert_eq!(found("#[test]", "\"AGENT-01\""), None);
    assert_eq!(found("#[test]", "Code::Agent02"), Some("does not name the code"));
    assert_eq!(found("#[test]\n#[ignore = \"slow\"]", "Code::Agent01"), Some("is ignored"));
    assert_eq!(found("/// Of no test.", "Code::Agent01"), Some("is no test"));
    assert_eq!(unshown(code, &test("#[test]", "Code::Agent01"), "it_is"), Some("is not there"));
    let servers = "#[test]\n#[ignore = \"needs servers\"]\nfn servers_tell() {\n    Code::Agent01;\n}\n";
    assert_eq!(unshown(code, servers, "servers_tell"), None);
}
