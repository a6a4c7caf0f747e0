//! Values over time: lines, areas on top of each other, or bars.

use crate::telemetry::Panel;

use super::frame::Frame;
use super::scale::ticks;
use super::svg::{Svg, series_class, width_of};
use super::unit::{growth, shown};
use super::{Named, Window};

/// Below the plot: times, and the legend.
const TIMES: f64 = 16.0;
const LEGEND: f64 = 20.0;

/// The plot and how values lie in it.
struct Plot {
    at: Frame,
    window: Window,
    least: f64,
    most: f64,
}

impl Plot {
    fn across(&self, time: f64) -> f64 {
        self.at.left + (time - self.window.from) / (self.window.to - self.window.from) * self.at.width
    }

    fn up(&self, value: f64) -> f64 {
        let part = (value - self.least) / (self.most - self.least);
        self.at.bottom() - part.clamp(-0.02, 1.02) * self.at.height
    }
}

pub(super) fn draw(svg: &mut Svg, panel: &Panel, series: &[Named], frame: Frame, window: Window) {
    // What counts events has a series for each that could have been; those that were are enough.
    let happened = |series: &&Named| !panel.bars() || series.points.iter().any(|(_, value)| *value != 0.0);
    let happened: Vec<Named> = series.iter().filter(happened).cloned().collect();
    if happened.is_empty() {
        svg.text("note", frame.left, frame.bottom() - 4.0, "none in this time");
    }
    let series = &happened;
    let layers = layers(series, panel.stacked(), window);
    let tops = layers.iter().flat_map(|layer| layer.points.iter().map(|point| point.top));
    let (least, most) = tops.fold((f64::MAX, f64::MIN), |(least, most), top| (least.min(top), most.max(top)));
    let (least, most) = if most < least { (0.0, 1.0) } else { (least, most) };
    let limits = panel.limits();
    let marks =
        ticks(limits.0.unwrap_or(least).min(least), limits.1.unwrap_or(most).max(most), growth(panel.unit()));
    let texts: Vec<String> = marks.iter().map(|mark| shown(*mark, panel.unit(), None)).collect();
    let left = texts.iter().map(|text| width_of(text)).fold(20.0, f64::max) + 4.0;
    let ends = (marks.first().copied().unwrap_or_default(), marks.last().copied().unwrap_or(1.0));
    let plot = Plot { at: frame.right_of(left).above(TIMES + LEGEND), window, least: ends.0, most: ends.1 };
    for (mark, text) in marks.iter().zip(&texts) {
        let y = plot.up(*mark);
        svg.line("grid", (plot.at.left, y), (plot.at.right(), y));
        svg.text_right("tick", plot.at.left - 6.0, y + 3.5, text);
    }
    times(svg, &plot);
    for (at, layer) in layers.iter().enumerate().rev() {
        let class = series_class(at);
        if panel.bars() {
            bars(svg, &plot, layer, &class);
        } else {
            curve(svg, &plot, layer, &class, panel);
        }
    }
    if panel.threshold_lines() {
        let values = panel.thresholds().iter().filter_map(|step| step.value);
        for value in values.filter(|value| (plot.least..=plot.most).contains(value)) {
            svg.line("limit", (plot.at.left, plot.up(value)), (plot.at.right(), plot.up(value)));
        }
    }
    svg.line("axis", (plot.at.left, plot.at.bottom()), (plot.at.right(), plot.at.bottom()));
    legend(svg, series, frame);
}

/// A series as it is drawn: from what is below it to its own top.
struct Drawn {
    points: Vec<Drop>,
}

#[derive(Clone, Copy)]
struct Drop {
    time: f64,
    bottom: f64,
    top: f64,
}

/// On top of each other where that is asked for. A series that has no value at a time adds nothing then.
fn layers(series: &[Named], stacked: bool, window: Window) -> Vec<Drawn> {
    let slot = |time: f64| ((time - window.from) / window.step).round() as i64;
    let mut below = std::collections::BTreeMap::<i64, f64>::new();
    let mut drawn = Vec::new();
    for series in series {
        let mut points = Vec::new();
        for (time, value) in &series.points {
            let ground = below.entry(slot(*time)).or_default();
            let bottom = if stacked { *ground } else { 0.0 };
            *ground += value;
            points.push(Drop { time: *time, bottom, top: bottom + value });
        }
        drawn.push(Drawn { points });
    }
    drawn
}

fn bars(svg: &mut Svg, plot: &Plot, layer: &Drawn, class: &str) {
    let apart = layer.points.windows(2).map(|pair| pair[1].time - pair[0].time).fold(f64::MAX, f64::min);
    let apart = if apart < f64::MAX { apart } else { plot.window.step };
    let wide = (apart / (plot.window.to - plot.window.from) * plot.at.width * 0.8).max(1.5);
    for drop in layer.points.iter().filter(|drop| drop.top > drop.bottom) {
        let (top, bottom) = (plot.up(drop.top), plot.up(drop.bottom));
        // A value is that of the time before it.
        let left = (plot.across(drop.time) - wide).max(plot.at.left);
        svg.rectangle(&format!("fill {class}"), Frame { left, top, width: wide, height: bottom - top });
    }
}

fn curve(svg: &mut Svg, plot: &Plot, layer: &Drawn, class: &str, panel: &Panel) {
    let gap = plot.window.step * 2.5;
    for piece in layer.points.chunk_by(|a, b| b.time - a.time <= gap) {
        let line = |value: fn(&Drop) -> f64| {
            let mut points: Vec<(f64, f64)> = Vec::new();
            for drop in piece {
                let (x, y) = (plot.across(drop.time), plot.up(value(drop)));
                if let Some((_, before)) = points.last().copied().filter(|_| panel.steps()) {
                    points.push((x, before));
                }
                points.push((x, y));
            }
            // One value alone is a point.
            if let [(x, y)] = points[..] {
                points.push((x + 2.0, y));
            }
            points
        };
        let top = line(|drop| drop.top);
        if panel.stacked() {
            let bottom = line(|drop| drop.bottom);
            let around: Vec<(f64, f64)> = top.iter().chain(bottom.iter().rev()).copied().collect();
            svg.path(&format!("area fill {class}"), &around, true);
        }
        svg.path(&format!("line {class}"), &top, false);
    }
}

/// Minutes and seconds since the window began: pictures of another day look the same.
fn times(svg: &mut Svg, plot: &Plot) {
    const STEPS: [f64; 8] = [5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    let span = plot.window.to - plot.window.from;
    let step = STEPS.into_iter().find(|step| span / step <= 7.0).unwrap_or(span / 5.0);
    let mut at = 0.0;
    while at <= span {
        let x = plot.across(plot.window.from + at);
        svg.line("grid", (x, plot.at.top), (x, plot.at.bottom()));
        let secs = at as u64;
        svg.text_middle("tick", x, plot.at.bottom() + 13.0, &format!("{}:{:02}", secs / 60, secs % 60));
        at += step;
    }
}

/// As many names as fit; the rest is counted.
fn legend(svg: &mut Svg, series: &[Named], frame: Frame) {
    const MARK: f64 = 14.0;
    let (y, mut x) = (frame.bottom() - 4.0, frame.left);
    for (at, one) in series.iter().enumerate() {
        let wide = MARK + width_of(&one.name) + 12.0;
        let rest = series.len() - at;
        if x + wide > frame.right() - if rest > 1 { 40.0 } else { 0.0 } {
            svg.text("note", x, y, &format!("+ {rest}"));
            return;
        }
        let mark = Frame { left: x, top: y - 9.0, width: 10.0, height: 10.0 };
        svg.rectangle(&format!("fill {}", series_class(at)), mark);
        svg.text("", x + MARK, y, &one.name);
        x += wide;
    }
}
