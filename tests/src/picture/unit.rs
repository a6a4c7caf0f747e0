//! Numbers as people say them, by Grafana's names of units.

/// By what a unit's larger names grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// 1,000.
    Tens,
    /// 1,024.
    Twos,
    /// Seconds, minutes, hours, days.
    Clock,
}

pub(super) fn growth(unit: &str) -> Growth {
    match unit {
        "bytes" | "binBps" => Growth::Twos,
        "s" => Growth::Clock,
        _ => Growth::Tens,
    }
}

/// A value with its unit.
pub(super) fn shown(value: f64, unit: &str, decimals: Option<usize>) -> String {
    match unit {
        "s" => seconds(value),
        "bytes" => bytes(value),
        "binBps" => bytes(value) + "/s",
        "percentunit" => format!("{} %", number(value * 100.0, decimals)),
        "ops" => number(value, decimals) + "/s",
        _ => number(value, decimals),
    }
}

fn number(value: f64, decimals: Option<usize>) -> String {
    const LARGE: [(f64, &str); 3] = [(1e9, " G"), (1e6, " M"), (1e4, " k")];
    for (from, name) in LARGE {
        let scale = if name == " k" { 1e3 } else { from };
        if value.abs() >= from {
            return rounded(value / scale, None) + name;
        }
    }
    rounded(value, decimals)
}

/// Three digits or so, without zeros at the end.
fn rounded(value: f64, decimals: Option<usize>) -> String {
    let digits = decimals.unwrap_or(match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 || size == 0.0 => 2,
        _ => 3,
    });
    let text = format!("{value:.digits$}");
    if decimals.is_some() || !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn bytes(value: f64) -> String {
    const NAMES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut at) = (value, 0);
    while value.abs() >= 1024.0 && at + 1 < NAMES.len() {
        value /= 1024.0;
        at += 1;
    }
    format!("{} {}", rounded(value, None), NAMES[at])
}

fn seconds(value: f64) -> String {
    const NAMES: [(f64, &str); 4] = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s")];
    for (from, name) in NAMES {
        if value.abs() >= from {
            return format!("{} {name}", rounded(value / from, None));
        }
    }
    if value == 0.0 { "0 s".to_owned() } else { format!("{} ms", rounded(value * 1e3, None)) }
}
