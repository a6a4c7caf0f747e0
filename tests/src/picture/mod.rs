//! Dashboards as pictures: answers of Prometheus in, SVG out, readable on light and dark ground. Pure: the same answers draw the
//! same picture.
//!
//! Each kind of panel has a file of its own; `unit` says numbers as people do, `scale` where ticks are.

mod bars;
mod frame;
mod lines;
mod scale;
mod stat;
mod svg;
mod table;
mod unit;

use crate::telemetry::{Board, Kind, Panel, Series};

use frame::Frame;
use svg::Svg;

/// Pixels of one column of Grafana's 24, and of one row.
const COLUMN: f64 = 50.0;
const ROW: f64 = 32.0;
/// Around everything, and the line with the dashboard's name.
const EDGE: f64 = 10.0;
const HEAD: f64 = 44.0;

/// What one panel was answered: for each of its queries the series.
pub type Answers = Vec<Vec<Series>>;

/// The time that a picture shows, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Its begin.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// Between two values of a line.
    pub step: f64,
}

/// A series with the name that its legend gives it.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws a dashboard: a whole SVG file (SVG 1.1). `answers` has as many parts as the dashboard has panels.
#[must_use]
pub fn draw(board: &Board, answers: &[Answers], window: Window) -> String {
    let rows = board.panels.iter().map(|panel| panel.grid_pos.y + panel.grid_pos.h).max().unwrap_or_default();
    let (wide, high) = (24.0 * COLUMN + 2.0 * EDGE, f64::from(rows) * ROW + HEAD + EDGE);
    let mut svg = Svg::new(wide, high, &board.title);
    svg.text("head", EDGE + 4.0, 28.0, &board.title);
    svg.text_right("note", wide - EDGE - 4.0, 28.0, &board.description);
    for (panel, answers) in board.panels.iter().zip(answers) {
        let grid = panel.grid_pos;
        let frame = Frame {
            left: EDGE + f64::from(grid.x) * COLUMN + 4.0,
            top: HEAD + f64::from(grid.y) * ROW + 4.0,
            width: f64::from(grid.w) * COLUMN - 8.0,
            height: f64::from(grid.h) * ROW - 8.0,
        };
        draw_panel(&mut svg, panel, answers, frame, window);
    }
    svg.finish()
}

fn draw_panel(svg: &mut Svg, panel: &Panel, answers: &Answers, frame: Frame, window: Window) {
    svg.open_group(&format!("{}: {}", panel.title, panel.description));
    svg.rectangle("panel", frame);
    let small = panel.kind == Kind::Stat;
    svg.text("title", frame.left + 10.0, frame.top + if small { 18.0 } else { 21.0 }, &panel.title);
    let inner = frame.below(if small { 24.0 } else { 32.0 }).within(10.0);
    let named = named(panel, answers);
    if named.is_empty() {
        svg.text_middle(
            if small { "value ok-green" } else { "note" },
            inner.middle(),
            inner.top + inner.height / 2.0,
            panel.no_value(),
        );
    } else {
        match panel.kind {
            Kind::Stat => stat::draw(svg, panel, &named, inner, window),
            Kind::Timeseries => lines::draw(svg, panel, &named, inner, window),
            Kind::Bargauge => bars::draw(svg, panel, &named, inner),
            Kind::Table => table::draw(svg, panel, answers, inner),
        }
    }
    svg.close_group();
}

/// All series that have a number, in the order of queries and names.
fn named(panel: &Panel, answers: &Answers) -> Vec<Named> {
    let mut all = Vec::new();
    for (query, series) in panel.targets.iter().zip(answers) {
        let mut part: Vec<Named> = series
            .iter()
            .map(|series| Named {
                name: query.legend(&series.labels),
                points: series.points.iter().copied().filter(|(_, value)| value.is_finite()).collect(),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        part.sort_by(|a, b| a.name.cmp(&b.name));
        all.extend(part);
    }
    all
}

#[cfg(test)]
mod tests;
