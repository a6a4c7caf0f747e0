//! A bar for each series, by its last value.

use crate::telemetry::Panel;

use super::Named;
use super::frame::Frame;
use super::stat::colour;
use super::svg::{Svg, width_of};
use super::unit::shown;

/// Tallest bar.
const BAR: f64 = 22.0;

pub(super) fn draw(svg: &mut Svg, panel: &Panel, series: &[Named], frame: Frame) {
    let values: Vec<(&str, f64)> =
        series.iter().filter_map(|series| Some((series.name.as_str(), series.points.last()?.1))).collect();
    let texts: Vec<String> =
        values.iter().map(|(_, value)| shown(*value, panel.unit(), panel.decimals())).collect();
    let widest = |texts: &mut dyn Iterator<Item = &str>| texts.map(width_of).fold(20.0, f64::max) + 12.0;
    let label = widest(&mut values.iter().map(|(name, _)| *name));
    let end = widest(&mut texts.iter().map(String::as_str));
    let most = values.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let most = panel.limits().1.unwrap_or(most);
    let room = (frame.width - label - end).max(10.0);
    let pitch = (frame.height / values.len() as f64).min(BAR + 8.0);
    for (at, ((name, value), text)) in values.iter().zip(&texts).enumerate() {
        let top = frame.top + at as f64 * pitch;
        let bar = Frame { left: frame.left + label, top, width: room, height: pitch - 8.0 };
        svg.text("", frame.left, top + bar.height / 2.0 + 4.0, name);
        svg.rectangle("ground", bar);
        let width = (value / most).clamp(0.0, 1.0) * room;
        svg.rectangle(&format!("ok-{}", colour(panel, *value)), Frame { width, ..bar });
        svg.text_right("", frame.right(), top + bar.height / 2.0 + 4.0, text);
    }
}
