//! What was measured, as it is kept.

use serde::Serialize;

/// One command.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// From start to end, in seconds.
    pub wall_secs: f64,
    /// User and system time of all its processes, in seconds.
    pub cpu_secs: f64,
    /// Peak memory of its largest process, in bytes.
    pub peak_bytes: u64,
    /// Processors that others kept busy meanwhile: above a quarter, the sample is doubtful.
    pub others_cores: f64,
}

/// One repetition of one tool, from a fresh repository.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The first backup.
    pub first: Sample,
    /// The second, of the same data.
    pub unchanged: Sample,
    /// The third, after about one per cent has changed.
    pub changed: Sample,
    /// The restore of the third.
    pub restore: Sample,
    /// Bytes in the repository after the first.
    pub stored_bytes: u64,
    /// Bytes that the second added.
    pub unchanged_added_bytes: u64,
    /// Bytes that the third added.
    pub added_bytes: u64,
}

/// One tool.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// What it says of its version.
    pub version: String,
    /// Whether the first restore was the same as the data, by names and contents.
    pub compared: bool,
    /// Why it was given up, if it was.
    pub failed: Option<String>,
    /// Repetitions.
    pub runs: Vec<Run>,
}

/// `{"schema":"muster.bench/1", …}`
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// Which form this is.
    pub schema: &'static str,
    /// Processors.
    pub cores: usize,
    /// What the machine says of its processor.
    pub processor: String,
    /// Kernel.
    pub kernel: String,
    /// Whether repositories and restores lay in memory.
    pub in_memory: bool,
    /// The data's scale; 1 is about 2 GiB.
    pub scale: f64,
    /// Files of the data.
    pub source_files: u64,
    /// Their bytes.
    pub source_bytes: u64,
    /// Tools, Muster first.
    pub tools: Vec<Measured>,
}

/// Medians of one tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Medians {
    pub(crate) first_secs: f64,
    pub(crate) unchanged_secs: f64,
    pub(crate) changed_secs: f64,
    pub(crate) restore_secs: f64,
    pub(crate) first_cpu_secs: f64,
    pub(crate) stored_bytes: f64,
    pub(crate) added_bytes: f64,
    pub(crate) backup_peak_bytes: f64,
    pub(crate) restore_peak_bytes: f64,
    /// Some sample was taken while others kept more than a quarter of a processor busy.
    pub(crate) disturbed: bool,
}

impl Measured {
    /// Medians over the repetitions; none if there are none.
    pub(crate) fn medians(&self) -> Option<Medians> {
        if self.runs.is_empty() {
            return None;
        }
        let over = |value: &dyn Fn(&Run) -> f64| median(self.runs.iter().map(value).collect());
        let samples = |run: &Run| [run.first, run.unchanged, run.changed, run.restore];
        let bytes = |bytes: u64| bytes as f64;
        Some(Medians {
            first_secs: over(&|run| run.first.wall_secs),
            unchanged_secs: over(&|run| run.unchanged.wall_secs),
            changed_secs: over(&|run| run.changed.wall_secs),
            restore_secs: over(&|run| run.restore.wall_secs),
            first_cpu_secs: over(&|run| run.first.cpu_secs),
            stored_bytes: over(&|run| bytes(run.stored_bytes)),
            added_bytes: over(&|run| bytes(run.added_bytes)),
            backup_peak_bytes: over(&|run| bytes(run.first.peak_bytes.max(run.changed.peak_bytes))),
            restore_peak_bytes: over(&|run| bytes(run.restore.peak_bytes)),
            disturbed: self.runs.iter().flat_map(samples).any(|sample| sample.others_cores > 0.25),
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0]).to_bits(), 3.0_f64.to_bits());
        assert_eq!(median(vec![9.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]).to_bits(), 3.0_f64.to_bits());
    }
}
