//! What the process itself costs, as the kernel counts it (proc(5)); nothing where there is no `/proc`.
//!
//! Names: OpenTelemetry semantic conventions, "OS process metrics".

use super::{CPU_TIME, MEMORY_USAGE};

/// Ticks a second in `/proc`, the same on every Linux that user space can see (`USER_HZ`, time(7)).
const TICKS: f64 = 100.0;
const KIB: f64 = 1024.0;

/// Has memory and processor time of this process asked for from now on.
pub(crate) fn feed() {
    MEMORY_USAGE.feed(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        resident(&status).map(|bytes| (Vec::new(), bytes)).into_iter().collect()
    });
    CPU_TIME.feed(|| {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        worked(&stat).map(|seconds| (Vec::new(), seconds)).into_iter().collect()
    });
}

/// Bytes in memory.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * KIB)
}

/// Seconds of user and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn worked(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read_whatever_the_process_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(worked(stat), Some(3.0));
        assert_eq!(worked("7 (a"), None);
        assert_eq!(resident("Name:\ta\nVmRSS:\t    2048 kB\n"), Some(2_097_152.0));
        assert_eq!(resident("Name:\ta\n"), None);
    }
}
