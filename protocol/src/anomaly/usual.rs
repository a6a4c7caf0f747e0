//! What is usual, by medians: a single odd slice among the last twenty moves them by nothing.

use super::oddity::Oddity;
use super::sample::Sample;

/// Ordinary slices that a service is compared with, the newest.
pub const USUAL: usize = 20;
/// Fewer tell nothing. A retention that keeps the default of seven verified rounds leaves enough of them.
pub const LEAST: usize = 5;

/// Smaller differences are not worth a word, whatever part of a small service they are.
const LEAST_LOST: u64 = 16 << 20;
const LEAST_GROWN: u64 = 256 << 20;
const LEAST_NEW: u64 = 16 << 20;
const LEAST_ENTRIES: u64 = 1_000;
const LEAST_MILLIS: u64 = 15 * 60 * 1_000;
/// New data, in thousandths of all: half of it.
const MUCH_NEW: u64 = 500;
/// From here on data hardly compresses, in thousandths; or when it takes so much more than usual.
const OPAQUE: u64 = 800;
const OPAQUE_RISE: u64 = 300;

/// The middle of some values, and the middle of their distances from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spread {
    median: u64,
    deviation: u64,
}

impl Spread {
    /// None of fewer than [`LEAST`].
    fn of(values: impl Iterator<Item = u64>) -> Option<Self> {
        let values: Vec<u64> = values.collect();
        if values.len() < LEAST {
            return None;
        }
        let median = median(values.clone());
        let deviation = median_of(values.into_iter().map(|value| value.abs_diff(median)));
        Some(Self { median, deviation })
    }

    /// Whether `value` is no fluctuation: further off than six standard deviations would be, each about 1.5 times the
    /// median deviation.
    fn is_far(&self, value: u64) -> bool {
        value.abs_diff(self.median) > self.deviation.saturating_mul(9)
    }
}

fn median_of(values: impl Iterator<Item = u64>) -> u64 {
    median(values.collect())
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What is odd about a slice, compared with the ordinary ones before it. Nothing while there are fewer than [`LEAST`].
pub(super) fn judge<'a>(usual: impl Iterator<Item = &'a Sample> + Clone, sample: &Sample) -> Vec<Oddity> {
    let odd = [
        size(Spread::of(usual.clone().map(|s| s.source_bytes)), sample.source_bytes),
        fewer(Spread::of(usual.clone().map(|s| s.entries)), sample.entries),
        rewritten(usual.clone(), sample),
        slow(Spread::of(usual.filter(|s| !s.fresh).filter_map(|s| s.took_millis)), sample),
    ];
    odd.into_iter().flatten().collect()
}

fn size(usual: Option<Spread>, bytes: u64) -> Option<Oddity> {
    let usual = usual.filter(|usual| usual.is_far(bytes))?;
    let was = usual.median;
    if bytes < was / 2 && was - bytes >= LEAST_LOST {
        return Some(Oddity::Shrunk { bytes, usual: was });
    }
    let grown = bytes / 2 > was && bytes - was >= LEAST_GROWN;
    grown.then_some(Oddity::Grown { bytes, usual: was })
}

fn fewer(usual: Option<Spread>, entries: u64) -> Option<Oddity> {
    let was = usual.filter(|usual| usual.is_far(entries))?.median;
    let fewer = entries < was / 2 && was - entries >= LEAST_ENTRIES;
    fewer.then_some(Oddity::Fewer { entries, usual: was })
}

fn rewritten<'a>(usual: impl Iterator<Item = &'a Sample>, sample: &Sample) -> Option<Oddity> {
    if sample.fresh || sample.added_bytes < LEAST_NEW {
        return None;
    }
    let known: Vec<&Sample> = usual.filter(|s| !s.fresh).collect();
    let changes = Spread::of(known.iter().map(|s| s.changed()))?;
    let (changed, was) = (sample.changed(), changes.median);
    let much = changed >= MUCH_NEW && changed / 5 >= was && changes.is_far(changed);
    let (packed, usual_packed) = (sample.packed(), median_of(known.iter().map(|s| s.packed())));
    let opaque = packed >= OPAQUE || packed >= usual_packed.saturating_add(OPAQUE_RISE);
    much.then_some(Oddity::Rewritten { changed, usual: was, packed, usual_packed, opaque })
}

fn slow(usual: Option<Spread>, sample: &Sample) -> Option<Oddity> {
    let millis = sample.took_millis.filter(|_| !sample.fresh)?;
    let was = usual.filter(|usual| usual.is_far(millis))?.median;
    let slow = millis / 4 > was && millis - was >= LEAST_MILLIS;
    slow.then_some(Oddity::Slow { millis, usual: was })
}
