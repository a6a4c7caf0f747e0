//! What is done within a span that is data: its log lines get the ids of that span, and spans of `tracing` that begin there belong to it.

use std::future::Future;

use opentelemetry::Context;
use opentelemetry::context::{ContextGuard, FutureExt};
use opentelemetry::trace::TraceContextExt;

use super::Place;

/// For as long as it is there, this thread works within a span.
#[must_use = "it is over when this is dropped"]
pub struct Entered {
    _guard: Option<ContextGuard>,
}

/// Works within `place` from now on, on this thread; nothing changes without one.
pub fn enter(place: Option<Place>) -> Entered {
    Entered { _guard: place.map(|place| context(place).attach()) }
}

/// `work`, within `place` wherever it is polled.
pub fn within<F: Future>(place: Option<Place>, work: F) -> impl Future<Output = F::Output> {
    let context = place.map_or_else(Context::new, context);
    work.with_context(context)
}

fn context(place: Place) -> Context {
    Context::new().with_remote_span_context(place.context())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current() -> Option<Place> {
        Place::of_context(Context::current().span().span_context())
    }

    #[tokio::test]
    async fn what_is_done_within_a_place_is_and_nothing_else() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
        let place = Place::of_headers(&[("traceparent".to_owned(), header)]);
        assert!(place.is_some());
        {
            let _within = enter(place);
            assert_eq!(current(), place);
        }
        assert_eq!(current(), None);
        let work = within(place, async {
            tokio::task::yield_now().await;
            current()
        });
        assert_eq!(work.await, place);
        assert_eq!(within(None, async { current() }).await, None);
    }
}
