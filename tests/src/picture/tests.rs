//! What a picture shows is what was answered.

use std::collections::BTreeMap;

use super::*;
use crate::telemetry::boards;

const WINDOW: Window = Window { from: 1_000.0, to: 1_060.0, step: 5.0 };

/// Every panel answered with two series that grow.
fn answered(board: &Board) -> Vec<Answers> {
    let series = |name: &str, by: f64| Series {
        labels: BTreeMap::from([("muster_service".to_owned(), name.to_owned())]),
        points: (0..=12).map(|at| (1_000.0 + 5.0 * f64::from(at), by * f64::from(at))).collect(),
    };
    let panels = board.panels.iter();
    panels
        .map(|panel| panel.targets.iter().map(|_| vec![series("web", 1.0), series("config", 3.0)]).collect())
        .collect()
}

#[test]
fn every_panel_is_drawn_with_its_title_and_its_series() {
    for (name, board) in boards() {
        let svg = draw(&board, &answered(&board), WINDOW);
        for panel in &board.panels {
            let title = panel.title.replace('&', "&amp;");
            assert!(svg.contains(&format!(">{title}</text>")), "{name}: {title} is missing");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: a number is none");
        assert!(!svg.contains(">no data<"), "{name}: a panel is empty");
    }
}

#[test]
fn a_panel_without_an_answer_says_so() {
    let all = boards();
    let board = all.get("round").expect("a dashboard of rounds");
    let nothing: Vec<Answers> =
        board.panels.iter().map(|panel| vec![Vec::new(); panel.targets.len()]).collect();
    let svg = draw(board, &nothing, WINDOW);
    assert!(svg.contains(">no data</text>"), "nothing is said");
    assert!(svg.contains(">no cut</text>"), "the panel's own word is not taken");
}

#[test]
fn what_is_not_a_number_is_no_point() {
    let all = boards();
    let board = all.get("fleet").expect("a dashboard of the fleet");
    let mut answers = answered(board);
    let series = answers.iter_mut().flatten().flatten();
    for series in series {
        series.points.push((1_060.0, f64::NAN));
        series.points.push((1_060.0, f64::INFINITY));
    }
    let same = draw(board, &answers, WINDOW) == draw(board, &answered(board), WINDOW);
    assert!(same, "what is no number is drawn");
}

#[test]
fn nothing_that_was_answered_becomes_markup() {
    let all = boards();
    let board = all.get("service").expect("a dashboard of services");
    let mut answers = answered(board);
    for series in answers.iter_mut().flatten().flatten() {
        series.labels.insert("muster_service".to_owned(), "<script>&\"".to_owned());
    }
    let svg = draw(board, &answers, WINDOW);
    assert!(!svg.contains("<script>"), "a label is an element");
    assert!(svg.contains("&lt;script&gt;&amp;&quot;"), "the label is not there");
}

#[test]
fn numbers_are_said_as_people_do() {
    use super::unit::shown;

    for (value, unit, text) in [
        (0.25, "percentunit", "25 %"),
        (90.0, "s", "1.5 min"),
        (0.0042, "s", "4.2 ms"),
        (0.0, "s", "0 s"),
        (172_800.0, "s", "2 d"),
        (1536.0, "bytes", "1.5 KiB"),
        (3.0 * 1024.0 * 1024.0, "binBps", "3 MiB/s"),
        (12_300.0, "short", "12.3 k"),
        (1_250.0, "short", "1250"),
        (0.5, "ops", "0.5/s"),
    ] {
        assert_eq!(shown(value, unit, None), text);
    }
    assert_eq!(shown(2.0, "short", Some(0)), "2");
}
