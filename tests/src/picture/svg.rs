//! Writing SVG: elements, classes for colours, everything escaped.

use std::fmt::Write;

use super::frame::Frame;

/// Everything but the series, on light ground and on dark.
const LIGHT: &str = "text{font:12px system-ui,sans-serif;fill:#3b434d}\
.head{font-size:18px;font-weight:600}.title{font-weight:600;font-size:13px}.note{fill:#68737f}.tick{fill:#68737f;font-size:10.5px}\
.value{font-size:26px;font-weight:600}.panel{fill:#fbfcfd;stroke:#dfe4e8}.grid{stroke:#e4e8ec;stroke-width:1}.axis{stroke:#b5bec7;stroke-width:1}\
.ground{fill:#e9edf0}.ok-green{fill:#2f7d4f}.ok-orange{fill:#b86a00}.ok-red{fill:#c4302b}\
.limit{stroke:#c4302b;stroke-width:1;stroke-dasharray:5 4}\
.line{fill:none;stroke-width:1.6;stroke-linejoin:round}.area{stroke:none;fill-opacity:.28}.spark{fill-opacity:.14}";
const DARK: &str = "text{fill:#d5dbe1}.note,.tick{fill:#98a3ae}.panel{fill:#1c2127;stroke:#333b44}.grid{stroke:#2a3138}.axis{stroke:#55606b}\
.ground{fill:#2a3138}.ok-green{fill:#5cc98a}.ok-orange{fill:#f0a33c}.ok-red{fill:#ff6f66}.limit{stroke:#ff6f66}";
/// Of series, on light ground and on dark: kept apart by eyes that see no red or no green, too (after Okabe and Ito).
const SERIES: [(&str, &str); 10] = [
    ("#0072b2", "#4aa8e0"),
    ("#d55e00", "#ff8a3d"),
    ("#009e73", "#35c79b"),
    ("#b45f9a", "#dd92c6"),
    ("#a98600", "#e0c04a"),
    ("#3e9fd6", "#86cdf5"),
    ("#7a5cc2", "#a98cf0"),
    ("#8c564b", "#c08a7d"),
    ("#5f6b76", "#9aa5b0"),
    ("#c23b6b", "#f07aa2"),
];

fn style() -> String {
    let series = |colour: fn(&(&'static str, &'static str)) -> &'static str| {
        let rule = |(at, pair)| {
            let colour = colour(pair);
            format!(".line.s{at}{{stroke:{colour}}}.fill.s{at}{{fill:{colour}}}")
        };
        SERIES.iter().enumerate().map(rule).collect::<String>()
    };
    let (light, dark) = (series(|pair| pair.0), series(|pair| pair.1));
    format!("{LIGHT}{light}@media(prefers-color-scheme:dark){{{DARK}{dark}}}")
}

/// A picture that is being written.
#[derive(Debug)]
pub(super) struct Svg {
    text: String,
}

impl Svg {
    pub(super) fn new(wide: f64, high: f64, title: &str) -> Self {
        let (title, style) = (escaped(title), style());
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{wide:.0}\" height=\"{high:.0}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{style}</style>\n"
        );
        Self { text }
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    /// What follows has this to say when somebody points at it.
    pub(super) fn open_group(&mut self, says: &str) {
        self.element(&format!("<g><title>{}</title>", escaped(says)));
    }

    pub(super) fn close_group(&mut self) {
        self.element("</g>");
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.write(class, x, y, "start", text);
    }

    pub(super) fn text_right(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.write(class, x, y, "end", text);
    }

    pub(super) fn text_middle(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.write(class, x, y, "middle", text);
    }

    fn write(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        let anchor = if anchor == "start" { String::new() } else { format!(" text-anchor=\"{anchor}\"") };
        self.element(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{}</text>",
            escaped(text)
        ));
    }

    pub(super) fn rectangle(&mut self, class: &str, at: Frame) {
        let Frame { left, top, width, height } = at;
        self.element(&format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{}\"/>",
            width.max(0.0),
            height.max(0.0),
            if class == "panel" { 4 } else { 1 }
        ));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.element(&format!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// Straight pieces from point to point; `closed`: back to the first.
    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)], closed: bool) {
        let mut data = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            write!(data, "{command}{x:.1} {y:.1}").expect("text in memory grows");
        }
        let end = if closed { "Z" } else { "" };
        self.element(&format!("<path class=\"{class}\" d=\"{data}{end}\"/>"));
    }

    fn element(&mut self, element: &str) {
        self.text.push_str(element);
        self.text.push('\n');
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// About how wide a text of 12 pixels is.
pub(super) fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * 7.1
}

/// Colours repeat after ten series.
pub(super) fn series_class(at: usize) -> String {
    format!("s{}", at % SERIES.len())
}
