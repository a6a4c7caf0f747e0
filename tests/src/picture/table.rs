//! A row for each label, a column for each query.

use std::collections::BTreeMap;

use crate::telemetry::Panel;

use super::Answers;
use super::frame::Frame;
use super::svg::Svg;
use super::unit::shown;

const LINE: f64 = 22.0;

pub(super) fn draw(svg: &mut Svg, panel: &Panel, answers: &Answers, frame: Frame) {
    let mut rows: BTreeMap<String, BTreeMap<usize, f64>> = BTreeMap::new();
    let mut label = String::new();
    for (query, series) in answers.iter().enumerate() {
        for series in series {
            let named = series.labels.iter().find(|(name, _)| *name != "__name__");
            let Some(((name, value), last)) = named.zip(series.last()) else { continue };
            label.clone_from(name);
            rows.entry(value.clone()).or_default().insert(query, last);
        }
    }
    let columns: Vec<(String, String)> = (0..answers.len()).map(|query| panel.column(query)).collect();
    let wide = frame.width * 0.8 / columns.len().max(1) as f64;
    let right = |column: usize| frame.left + frame.width * 0.2 + (column + 1) as f64 * wide;
    let mut y = frame.top + 12.0;
    svg.text("note", frame.left, y, &panel.renamed(&label));
    for (at, (name, _)) in columns.iter().enumerate() {
        svg.text_right("note", right(at), y, name);
    }
    svg.line("axis", (frame.left, y + 6.0), (frame.right(), y + 6.0));
    let fit = ((frame.height - LINE) / LINE).floor().max(0.0) as usize;
    for (name, values) in rows.iter().take(fit) {
        y += LINE;
        svg.text("", frame.left, y, name);
        for (at, (_, unit)) in columns.iter().enumerate() {
            let text = values.get(&at).map_or_else(|| "–".to_owned(), |value| shown(*value, unit, None));
            svg.text_right("", right(at), y, &text);
        }
    }
}
