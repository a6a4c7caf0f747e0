//! Which parts of a pack are needed at all.

use std::ops::Range;

/// Ranges of plain offsets, joined where they touch, gone through in order.
#[derive(Debug)]
pub(super) struct Spans {
    ranges: Vec<Range<u64>>,
    next: usize,
}

impl Spans {
    /// From offsets and lengths, sorted by offset.
    pub(super) fn of(runs: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (offset, length) in runs {
            let end = offset.saturating_add(length);
            match ranges.last_mut() {
                Some(last) if offset <= last.end => last.end = last.end.max(end),
                Some(_) | None => ranges.push(offset..end),
            }
        }
        Self { ranges, next: 0 }
    }

    /// Whether any of it is needed. Asked about ever later ranges.
    pub(super) fn touches(&mut self, range: &Range<u64>) -> bool {
        while self.ranges.get(self.next).is_some_and(|span| span.end <= range.start) {
            self.next += 1;
        }
        self.ranges.get(self.next).is_some_and(|span| span.start < range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::Spans;

    #[test]
    fn only_ranges_that_runs_touch_are_needed() {
        let mut spans = Spans::of([(5, 5), (10, 2), (11, 1), (40, 1)].into_iter());
        let asked = [0..5, 5..6, 6..12, 12..40, 40..50, 50..60];
        let needed: Vec<bool> = asked.iter().map(|range| spans.touches(range)).collect();
        assert_eq!(needed, [false, true, true, false, true, false]);
    }
}
