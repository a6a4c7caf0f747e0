//! Where the ticks of an axis are.

use super::unit::Growth;

/// From 0, or from below, to the top: few round values, the last at or above `most`.
pub(super) fn ticks(least: f64, most: f64, growth: Growth) -> Vec<f64> {
    const PARTS: f64 = 4.0;
    let span = most - least;
    let step = if span > 0.0 { round_up(span / PARTS, growth) } else { 1.0 };
    let first = (least / step).floor() as i64;
    let last = ((most / step) - 1e-9).ceil() as i64;
    (first..=last.max(first + 1)).map(|at| at as f64 * step).collect()
}

/// The next round number.
fn round_up(value: f64, growth: Growth) -> f64 {
    const CLOCK: [f64; 15] = [
        15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 21_600.0,
        43_200.0, 86_400.0,
    ];
    match growth {
        Growth::Tens => tens(value),
        Growth::Clock if value > 86_400.0 => tens(value / 86_400.0) * 86_400.0,
        Growth::Clock if value > 10.0 => CLOCK.into_iter().find(|step| *step >= value).unwrap_or(86_400.0),
        Growth::Clock => tens(value),
        Growth::Twos => {
            let mut unit = 1.0;
            while value / unit > 1_024.0 {
                unit *= 1_024.0;
            }
            // In powers of two: between 512 KiB and 1 MiB nothing else looks round.
            let mut step = unit;
            while step < value {
                step *= 2.0;
            }
            step
        }
    }
}

/// 1, 2 or 5 times a power of ten.
fn tens(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let found =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * power).find(|step| *step >= value * 0.999_999);
    found.unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(0.0, 7.0, Growth::Tens), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(0.0, 1.0, Growth::Tens), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.0, 100.0, Growth::Clock), [0.0, 30.0, 60.0, 90.0, 120.0]);
        assert_eq!(ticks(0.0, 3.0 * 1024.0, Growth::Twos), [0.0, 1024.0, 2048.0, 3072.0]);
        assert_eq!(ticks(-1.0, 1.0, Growth::Tens), [-1.0, -0.5, 0.0, 0.5, 1.0]);
    }

    #[test]
    fn nothing_at_all_still_has_an_axis() {
        assert_eq!(ticks(0.0, 0.0, Growth::Tens), [0.0, 1.0]);
    }
}
