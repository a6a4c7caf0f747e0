//! Medians and ratios as Markdown tables, which also read well on a terminal.

use super::record::{Measured, Medians, Record};

const MB: f64 = 1e6;
const MIB: f64 = 1024.0 * 1024.0;

/// Both tables with a line about what was measured.
#[must_use]
pub fn tables(record: &Record) -> String {
    let source = record.source_bytes as f64;
    let rows: Vec<(&Measured, Medians)> =
        record.tools.iter().filter_map(|tool| Some((tool, tool.medians()?))).collect();
    let repetitions = record.tools.iter().map(|tool| tool.runs.len()).max().unwrap_or(0);
    let mut text = format!(
        "{:.0} MB in {} files; {} of {repetitions}; {} processors ({}); repositories and restores {}.\n\n",
        source / MB,
        record.source_files,
        if repetitions == 1 { "one repetition" } else { "medians" },
        record.cores,
        record.processor,
        if record.in_memory { "in memory" } else { "on disk" },
    );
    text.push_str(&table(
        &[
            "tool",
            "first MB/s",
            "CPU s",
            "stored MB",
            "unchanged s",
            "1 % s",
            "added MB",
            "restore MB/s",
            "memory MiB",
            "restoring MiB",
            "version",
        ],
        rows.iter().map(|(tool, m)| {
            let mark = if m.disturbed { " !" } else { "" };
            vec![
                format!("{}{mark}", tool.name),
                format!("{:.0}", source / MB / m.first_secs),
                format!("{:.1}", m.first_cpu_secs),
                format!("{:.1}", m.stored_bytes / MB),
                format!("{:.2}", m.unchanged_secs),
                format!("{:.2}", m.changed_secs),
                format!("{:.1}", m.added_bytes / MB),
                format!("{:.0}", source / MB / m.restore_secs),
                format!("{:.0}", m.backup_peak_bytes / MIB),
                format!("{:.0}", m.restore_peak_bytes / MIB),
                tool.version.clone(),
            ]
        }),
    ));
    if rows.iter().any(|(_, m)| m.disturbed) {
        text.push_str("\n! something else kept more than a quarter of a processor busy meanwhile\n");
    }
    if let Some((own, m)) = rows.first().filter(|_| rows.len() > 1) {
        text.push_str(&format!("\nThe same as multiples of {}: times as slow, times as much.\n\n", own.name));
        text.push_str(&table(
            &["tool", "first", "stored", "unchanged", "1 %", "added", "restore", "memory", "restoring"],
            rows[1..].iter().map(|(tool, other)| {
                let ratio = |value: &dyn Fn(&Medians) -> f64| format!("{:.2}", value(other) / value(m));
                vec![
                    tool.name.clone(),
                    ratio(&|m| m.first_secs),
                    ratio(&|m| m.stored_bytes),
                    ratio(&|m| m.unchanged_secs),
                    ratio(&|m| m.changed_secs),
                    ratio(&|m| m.added_bytes),
                    ratio(&|m| m.restore_secs),
                    ratio(&|m| m.backup_peak_bytes),
                    ratio(&|m| m.restore_peak_bytes),
                ]
            }),
        ));
    }
    for tool in record.tools.iter().filter(|tool| tool.failed.is_some() || !tool.compared) {
        let why = tool.failed.as_deref().unwrap_or("its restore was not the same as the data");
        text.push_str(&format!("\n{}: {why}\n", tool.name));
    }
    text
}

fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = vec![headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            // Names and versions to the left, numbers to the right.
            if column == 0 || headings[column] == "version" {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(column, width)| {
        if column == 0 || headings[column] == "version" {
            "-".repeat(width + 2)
        } else {
            format!("{}:", "-".repeat(width + 1))
        }
    });
    let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    let body: String = all[1..].iter().map(|row| line(row)).collect();
    format!("{}{rule}{body}", line(&all[0]))
}
