//! What a running process has used so far, as the system tells it.

use std::fs;

/// Unit of `/proc/<pid>/stat` as every Linux of today has it (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// What one process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Gauge {
    /// Processor seconds, user and system.
    pub cpu_secs: f64,
    /// Bytes resident now.
    pub resident_bytes: u64,
    /// The most bytes that were ever resident.
    pub peak_bytes: u64,
}

impl Gauge {
    /// What the process of this id has used; nothing, once it is gone.
    #[must_use]
    pub fn of(id: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        let kibibytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or_default()
                * 1024
        };
        Self {
            cpu_secs: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            resident_bytes: kibibytes("VmRSS:"),
            peak_bytes: kibibytes("VmHWM:"),
        }
    }

    /// What was used since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { cpu_secs: self.cpu_secs - before.cpu_secs, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::Gauge;

    #[test]
    fn this_process_has_used_something_and_none_has_used_nothing() {
        let own = Gauge::of(std::process::id());
        assert!(own.peak_bytes >= own.resident_bytes && own.resident_bytes > 1024 * 1024, "{own:?}");
        assert_eq!(Gauge::of(u32::MAX), Gauge::default());
    }
}
