//! Where objects lie in a pass, and when they are due.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::ServiceName;

/// What a service without data weighs: its documents want reading, too.
const LEAST_WEIGHT: u64 = 64 * 1024;

/// The services of a pass with what each weighs: about the bytes that it has on the share. How much a service really has is known
/// only when its turn comes, and need not be known before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    services: BTreeMap<ServiceName, u64>,
}

impl Course {
    /// A service has about so many bytes; the largest that is said of it counts.
    pub fn weigh(&mut self, service: &ServiceName, bytes: u64) {
        let bytes = bytes.max(LEAST_WEIGHT);
        match self.services.get_mut(service) {
            Some(known) => *known = bytes.max(*known),
            None => drop(self.services.insert(service.clone(), bytes)),
        }
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether a service has anything to read.
    #[must_use]
    pub fn holds(&self, service: &ServiceName) -> bool {
        self.services.contains_key(service)
    }

    /// The services from `first` on, by name; of all, without.
    pub fn services_from(&self, first: Option<&ServiceName>) -> impl Iterator<Item = &ServiceName> {
        let first = first.cloned();
        self.services.keys().filter(move |service| first.as_ref().is_none_or(|first| *service >= first))
    }

    /// What all services weigh.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.services.values().fold(0, |sum, weight| sum.saturating_add(*weight))
    }

    /// What lies before an object: of its service `done` of `all` bytes come first.
    #[must_use]
    pub fn before(&self, service: &ServiceName, done: u64, all: u64) -> u64 {
        let earlier = self.services.range(..service.clone()).fold(0u64, |sum, (_, w)| sum.saturating_add(*w));
        let own = u128::from(self.services.get(service).copied().unwrap_or(0));
        let part = own * u128::from(done.min(all)) / u128::from(all.max(1));
        earlier.saturating_add(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

/// How long what lies at `before` of `whole` has to wait, `elapsed` after the pass began. What is late waits for nothing.
///
/// A pass takes nine twentieths of `within`: as services come and grow, what came first in one pass may come last in the next, and
/// is still read in nine tenths of the time.
#[must_use]
pub fn wait(before: u64, whole: u64, elapsed: Duration, within: Duration) -> Duration {
    let length = within.as_millis() * 9 / 20;
    let due = length * u128::from(before.min(whole)) / u128::from(whole.max(1));
    let left = due.saturating_sub(elapsed.as_millis());
    Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Course, LEAST_WEIGHT, wait};
    use crate::ids::ServiceName;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86_400);

    fn name(text: &str) -> ServiceName {
        text.parse().expect("a name")
    }

    fn course() -> Course {
        let mut course = Course::default();
        course.weigh(&name("b"), 3 << 20);
        course.weigh(&name("a"), 1 << 20);
        course.weigh(&name("b"), 1);
        course.weigh(&name("c"), 0);
        course
    }

    #[test]
    fn every_object_has_its_place_between_the_services() {
        let course = course();
        assert_eq!(course.whole(), (4 << 20) + LEAST_WEIGHT);
        assert_eq!(course.before(&name("a"), 0, 10), 0);
        assert_eq!(course.before(&name("a"), 5, 10), 1 << 19);
        assert_eq!(course.before(&name("b"), 0, 10), 1 << 20);
        // More than was thought is no more than all of it.
        assert_eq!(course.before(&name("b"), 20, 10), 4 << 20);
        assert_eq!(course.before(&name("c"), 0, 0), 4 << 20);
        assert_eq!(course.services_from(Some(&name("b"))).count(), 2);
        assert_eq!(course.services_from(Some(&name("bb"))).count(), 1, "one that is gone is passed over");
        assert_eq!(course.services_from(None).count(), 3);
    }

    #[test]
    fn a_pass_is_spread_over_nine_twentieths_of_the_time() {
        assert_eq!(wait(0, 100, Duration::ZERO, 30 * DAY), Duration::ZERO);
        assert_eq!(wait(100, 100, Duration::ZERO, 30 * DAY), DAY * 27 / 2);
        assert_eq!(wait(50, 100, 6 * DAY, 30 * DAY), DAY * 3 / 4);
        assert_eq!(wait(50, 100, 7 * DAY, 30 * DAY), Duration::ZERO, "it is late");
        assert_eq!(wait(0, 0, Duration::ZERO, 30 * DAY), Duration::ZERO);
    }

    /// A year of passes over a share that changes out of all recognition: no object waits for longer than was promised.
    #[test]
    fn in_a_year_every_object_is_read_in_time() {
        let within = 30 * DAY;
        let (mut now, mut last, mut longest) = (Duration::ZERO, [Duration::ZERO; 40], Duration::ZERO);
        let mut pass = 0u64;
        while now < 365 * DAY {
            let began = now;
            // What was nearly nothing is nearly everything in the next pass: every object's place changes as much as it can.
            let large = if pass.is_multiple_of(2) { 0 } else { 39 };
            let sizes: Vec<u64> = (0..40).map(|n| if n == large { 1_000_000 } else { 1 }).collect();
            let whole: u64 = sizes.iter().sum();
            let mut before = 0;
            for (size, last) in sizes.iter().zip(&mut last) {
                now += wait(before, whole, now - began, within);
                if pass > 0 {
                    longest = longest.max(now - *last);
                }
                *last = now;
                before += size;
            }
            now += wait(whole, whole, now - began, within);
            pass += 1;
        }
        assert_eq!(pass, 28);
        assert!(longest > 20 * DAY && longest <= within * 9 / 10, "{longest:?}");
    }
}
