//! What a run of the swarm has measured, as a table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::gauge::Gauge;

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct RoundSample {
    /// From the trigger to the reader who finds the commit in the log, in seconds.
    pub committed_secs: f64,
    /// From the trigger to the reader who finds the verification in the log, in seconds.
    pub verified_secs: f64,
    /// The bare exchange just before, in seconds; none when there was no program for it.
    pub baseline_secs: Option<f64>,
    /// `complete` or `partial`.
    pub outcome: String,
    /// Messages that the server took in, from the trigger to the commit.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Messages that the server gave out.
    pub messages_out: u64,
    /// What the coordinator has used, from the trigger to the commit; its peak is that of its whole life.
    pub coordinator: Gauge,
    /// What the server has used.
    pub server: Gauge,
    /// What the process of all agents has used.
    pub agents: Gauge,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `muster.bench.fleet/1`.
    pub schema: &'static str,
    /// How many agents.
    pub agents: usize,
    /// How long it took to connect all of them, in seconds.
    pub connect_secs: f64,
    /// The rounds, in order. The first is of new packs, the others of a fleet in which nothing changed.
    pub rounds: Vec<RoundSample>,
    /// Streams on the server at the end.
    pub streams: u64,
    /// Consumers on the server at the end.
    pub consumers: u64,
    /// Length of the longest log record, and of the manifest, in bytes.
    pub longest_record_bytes: u64,
    /// See above.
    pub manifest_bytes: u64,
    /// Hellos and notices that nobody answered in time.
    pub unanswered: u64,
}

impl Report {
    /// The median of the rounds' ratios to the bare exchange of the same moment.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        median(self.rounds.iter().filter_map(|r| Some(r.committed_secs / r.baseline_secs?)).collect())
    }

    /// The most memory that the coordinator ever had, in bytes.
    #[must_use]
    pub fn coordinator_peak_bytes(&self) -> u64 {
        self.rounds.iter().map(|round| round.coordinator.peak_bytes).max().unwrap_or_default()
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} agents, one connection each, connected in {:.1} s\n\n\
             | round | committed s | verified s | bare s | ratio | coordinator CPU s, MiB | server CPU s, MiB | \
             agents CPU s, MiB | messages in, out | outcome |\n|---|---|---|---|---|---|---|---|---|---|\n",
            self.agents, self.connect_secs
        );
        for (number, round) in self.rounds.iter().enumerate() {
            let bare = round.baseline_secs.map_or("–".to_owned(), |secs| format!("{secs:.2}"));
            let ratio = round.baseline_secs.map(|secs| round.committed_secs / secs);
            let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            let used = |gauge: Gauge| format!("{:.2}, {}", gauge.cpu_secs, gauge.peak_bytes / (1024 * 1024));
            let _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {bare} | {ratio} | {} | {} | {} | {}, {} | {} |",
                number + 1,
                round.committed_secs,
                round.verified_secs,
                used(round.coordinator),
                used(round.server),
                used(round.agents),
                round.messages_in,
                round.messages_out,
                round.outcome,
            );
        }
        let _ = write!(
            text,
            "\n{} streams, {} consumers; longest log record {} bytes, manifest {} bytes; unanswered {}",
            self.streams, self.consumers, self.longest_record_bytes, self.manifest_bytes, self.unanswered
        );
        if let Some(ratio) = self.ratio() {
            let _ = write!(
                text,
                "\nmedian ratio {ratio:.2}, coordinator at most {} MiB",
                self.coordinator_peak_bytes() / (1024 * 1024)
            );
        }
        text
    }
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
