//! The medians as a picture: bar charts in SVG, readable on light and dark ground.

use std::fmt::Write;

use super::record::{Measured, Medians, Record};

const MIB: f64 = 1024.0 * 1024.0;
/// Measures of the picture in pixels.
const COLUMN: f64 = 490.0;
const LABEL: f64 = 168.0;
const VALUE: f64 = 60.0;
const BAR: f64 = 18.0;
const TITLE: f64 = 44.0;
const GAP: f64 = 34.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#3b434d}.title{font-weight:600}.note{fill:#68737f;font-size:12px}\
.bar{fill:#a8b2bd}.own{fill:#2f7d6d}.ground{fill:#dfe4e8}\
@media(prefers-color-scheme:dark){text{fill:#d5dbe1}.note{fill:#98a3ae}.bar{fill:#5b6672}.own{fill:#4fae98}.ground{fill:#333b44}}";

struct Chart {
    title: &'static str,
    note: &'static str,
    value: fn(&Medians, f64) -> f64,
    digits: usize,
}

const CHARTS: [Chart; 6] = [
    Chart {
        title: "First backup",
        note: "MB/s, more is better",
        value: |m, mb| mb / m.first_secs,
        digits: 0,
    },
    Chart { title: "Restore", note: "MB/s, more is better", value: |m, mb| mb / m.restore_secs, digits: 0 },
    Chart {
        title: "Nothing changed",
        note: "seconds, less is better",
        value: |m, _| m.unchanged_secs,
        digits: 2,
    },
    Chart { title: "1 % changed", note: "seconds, less is better", value: |m, _| m.changed_secs, digits: 2 },
    Chart {
        title: "Added after 1 % of change",
        note: "MB, less is better",
        value: |m, _| m.added_bytes / 1e6,
        digits: 1,
    },
    Chart {
        title: "Peak memory, backup or restore",
        note: "MiB, less is better",
        value: |m, _| m.backup_peak_bytes.max(m.restore_peak_bytes) / MIB,
        digits: 0,
    },
];

/// The picture, a whole SVG file (SVG 1.1).
#[must_use]
pub fn picture(record: &Record) -> String {
    let megabytes = record.source_bytes as f64 / 1e6;
    let rows: Vec<(&Measured, Medians)> =
        record.tools.iter().filter_map(|tool| Some((tool, tool.medians()?))).collect();
    let height = |rows: usize| TITLE + rows as f64 * (BAR + 6.0) + GAP;
    let (wide, high) = (2.0 * COLUMN + 20.0, 3.0 * height(rows.len()) + 24.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" width=\"{wide}\" height=\"{high}\" role=\"img\">\n\
         <title>Muster beside other backup tools</title>\n<style>{STYLE}</style>\n"
    );
    for (at, chart) in CHARTS.iter().enumerate() {
        let left = 10.0 + if at % 2 == 0 { 0.0 } else { COLUMN };
        let top = 6.0 + (at / 2) as f64 * height(rows.len());
        draw(&mut svg, chart, &rows, megabytes, left, top);
    }
    let foot = format!(
        "{megabytes:.0} MB in {} files, {} processors, medians; repositories {}",
        record.source_files,
        record.cores,
        if record.in_memory { "in memory" } else { "on disk" }
    );
    text(&mut svg, "note", 10.0, high - 10.0, &foot);
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, chart: &Chart, rows: &[(&Measured, Medians)], megabytes: f64, left: f64, top: f64) {
    text(svg, "title", left, top + 16.0, chart.title);
    text(svg, "note", left, top + 33.0, chart.note);
    let values: Vec<f64> = rows.iter().map(|(_, medians)| (chart.value)(medians, megabytes)).collect();
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let room = COLUMN - LABEL - VALUE - 20.0;
    let mut y = top + TITLE;
    for ((tool, _), value) in rows.iter().zip(values) {
        let class = if tool.name.starts_with("muster") { "own" } else { "bar" };
        let width = (value / most * room).max(1.0);
        text(svg, "", left, y + 14.0, &tool.name);
        rectangle(svg, "ground", left + LABEL, y, room);
        rectangle(svg, class, left + LABEL, y, width);
        text(svg, "", left + LABEL + room + 6.0, y + 14.0, &format!("{value:.*}", chart.digits));
        y += BAR + 6.0;
    }
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    writeln!(svg, "<text{class} x=\"{x:.0}\" y=\"{y:.0}\">{text}</text>").expect("text in memory grows");
}

fn rectangle(svg: &mut String, class: &str, x: f64, y: f64, width: f64) {
    writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
    )
    .expect("text in memory grows");
}
