//! One large number, coloured by its thresholds, above its course.

use crate::telemetry::Panel;

use super::frame::Frame;
use super::svg::Svg;
use super::unit::shown;
use super::{Named, Window};

pub(super) fn draw(svg: &mut Svg, panel: &Panel, series: &[Named], frame: Frame, window: Window) {
    let Some(first) = series.first() else { return };
    let Some((_, value)) = first.points.last() else { return };
    let class = format!("ok-{}", colour(panel, *value));
    spark(svg, first, &class, frame, window);
    let text =
        panel.word(*value).map_or_else(|| shown(*value, panel.unit(), panel.decimals()), str::to_owned);
    svg.text_middle(&format!("value {class}"), frame.middle(), frame.top + frame.height / 2.0 + 6.0, &text);
}

/// Of the last threshold that the value reaches.
pub(super) fn colour(panel: &Panel, value: f64) -> &str {
    let reached = panel.thresholds().iter().rev().find(|step| step.value.is_none_or(|from| value >= from));
    reached.map_or("green", |step| step.color.as_str())
}

fn spark(svg: &mut Svg, series: &Named, class: &str, frame: Frame, window: Window) {
    let values = series.points.iter().map(|(_, value)| *value);
    let (least, most) =
        values.fold((0.0_f64, f64::MIN_POSITIVE), |(least, most), v| (least.min(v), most.max(v)));
    let across = |at: f64| frame.left + (at - window.from) / (window.to - window.from) * frame.width;
    let up = |value: f64| frame.bottom() - (value - least) / (most - least) * frame.height * 0.6;
    let mut points: Vec<(f64, f64)> =
        series.points.iter().map(|(at, value)| (across(*at), up(*value))).collect();
    let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else { return };
    points.push((last.0, frame.bottom()));
    points.push((first.0, frame.bottom()));
    svg.path(&format!("spark {class}"), &points, true);
}
