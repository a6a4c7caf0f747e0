//! What is said again and again is said once in a while: the same warning, with the same fields, at most twice a minute. Errors are
//! always said.
//!
//! Holds for standard error and for the collector alike. What was folded is counted, and the next line in JSON says how many were.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::metrics::FOLDED;

/// How long a line stands for those like it.
const WINDOW: Duration = Duration::from_secs(60);
/// How often it may be said within that time: two of a kind are news, the third is a habit.
const WITHIN: u32 = 2;
/// Lines that are kept in mind.
const MOST: usize = 1_024;

/// The layer that folds.
#[derive(Default)]
pub(crate) struct Fold(Mutex<HashMap<u64, Said>>);

struct Said {
    since: Instant,
    times: u32,
}

thread_local! {
    /// How often the event at hand was folded before it is said now.
    static BEFORE: Cell<u32> = const { Cell::new(0) };
}

/// How often the event that is being written was folded since it was said last.
pub(super) fn folded_before() -> u32 {
    BEFORE.get()
}

impl<S: Subscriber> Layer<S> for Fold {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        BEFORE.set(0);
        if *event.metadata().level() != Level::WARN {
            return true;
        }
        let mut words = Words(DefaultHasher::new());
        event.metadata().callsite().hash(&mut words.0);
        event.record(&mut words);
        let is_said = self.says(words.0.finish(), Instant::now());
        if !is_said {
            FOLDED.one(Vec::new());
        }
        is_said
    }
}

impl Fold {
    fn says(&self, line: u64, now: Instant) -> bool {
        let Ok(mut lines) = self.0.lock() else { return true };
        if lines.len() >= MOST && !lines.contains_key(&line) {
            lines.retain(|_, said| now.duration_since(said.since) < WINDOW);
            if lines.len() >= MOST {
                return true;
            }
        }
        let said = lines.entry(line).or_insert(Said { since: now, times: 0 });
        if now.duration_since(said.since) >= WINDOW {
            BEFORE.set(said.times.saturating_sub(WITHIN));
            *said = Said { since: now, times: 0 };
        }
        said.times = said.times.saturating_add(1);
        said.times <= WITHIN
    }
}

/// Hashes what an event says.
struct Words(DefaultHasher);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        field.name().hash(&mut self.0);
        // Into a hash nothing fails.
        let _ = write!(Hashed(&mut self.0), "{value:?}");
    }
}

struct Hashed<'a>(&'a mut DefaultHasher);

impl Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    struct Count(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _event: &Event<'_>, _context: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn warnings_that_say_the_same_are_folded_and_others_are_not() {
        let count = Arc::new(AtomicUsize::new(0));
        let fold = Fold::default().with_filter(LevelFilter::WARN);
        let subscriber = tracing_subscriber::registry().with(Count(Arc::clone(&count))).with(fold);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..10 {
                tracing::warn!("the share does not answer");
                tracing::warn!(number, "another each time");
                tracing::info!("no warning");
                tracing::error!("errors are always said");
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 2 + 10 + 10 + 10);
    }

    #[test]
    fn a_line_is_said_again_when_its_time_is_over() {
        let (fold, now) = (Fold::default(), Instant::now());
        let said = |at: u64| fold.says(7, now + Duration::from_secs(at));
        assert_eq!([0, 1, 2, 59].map(said), [true, true, false, false]);
        assert!(said(60));
        assert_eq!(folded_before(), 2);
        assert_eq!([61, 62].map(said), [true, false]);
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded_and_nothing_is_lost_for_it() {
        let (fold, now) = (Fold::default(), Instant::now());
        for line in 0..2 * MOST as u64 {
            assert!(fold.says(line, now));
        }
        assert!(fold.0.lock().expect("lines").len() <= MOST);
    }
}
