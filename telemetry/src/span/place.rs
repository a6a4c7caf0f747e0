//! Where a span is: its trace and its own id, as W3C Trace Context writes them.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use sha2::{Digest, Sha256};

use super::emit;

/// Trace and span, and whether the trace is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

/// The header of <https://www.w3.org/TR/trace-context/>, section 3.2.
const TRACEPARENT: &str = "traceparent";

impl Place {
    /// The root of a trace with an id of its own, such as a round's. Everybody who knows the id comes to the same place, and whether the trace is
    /// told hangs on nothing but the id and the configured ratio.
    #[must_use]
    pub fn root(trace: [u8; 16]) -> Self {
        let sampled = emit::samples(TraceId::from_bytes(trace));
        Self { trace, span: span_id(&trace, b"root"), sampled }
    }

    /// The root of a trace that is called so, such as a pass of a scrub: as [`Place::root`].
    #[must_use]
    pub fn called(name: &str) -> Self {
        let hash = Sha256::new().chain_update(b"muster trace v1").chain_update(name).finalize();
        let mut trace = [0; 16];
        trace.copy_from_slice(&hash[..16]);
        Self::root(trace)
    }

    /// The span of this trace with that name: the same for everybody.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { span: span_id(&self.trace, name.as_bytes()), ..*self }
    }

    /// The span of that name that belongs to this one: the same for everybody.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        let under: Vec<u8> = self.span.iter().copied().chain(name.bytes()).collect();
        Self { span: span_id(&self.trace, &under), ..*self }
    }

    /// The same place in a trace that is not told: whoever is below it tells nothing either.
    #[must_use]
    pub fn untold(&self) -> Self {
        Self { sampled: false, ..*self }
    }

    /// Whether the trace is told.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The trace's id, in hexadecimal.
    #[must_use]
    pub fn trace_id(&self) -> String {
        TraceId::from_bytes(self.trace).to_string()
    }

    /// What a message came with; none: nothing that is well formed.
    #[must_use]
    pub fn of_headers(headers: &[(String, String)]) -> Option<Self> {
        let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT))?;
        Self::parse(value)
    }

    /// Version 00, and later ones as far as they begin alike.
    fn parse(value: &str) -> Option<Self> {
        let mut fields = value.trim().split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let good = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        if !good || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let known = trace != TraceId::INVALID && span != SpanId::INVALID;
        known.then(|| Self { trace: trace.to_bytes(), span: span.to_bytes(), sampled: flags & 1 == 1 })
    }

    /// As a header of a message.
    #[must_use]
    pub fn header(&self) -> (String, String) {
        let Self { trace, span, sampled } = *self;
        let (trace, span) = (TraceId::from_bytes(trace), SpanId::from_bytes(span));
        (TRACEPARENT.to_owned(), format!("00-{trace}-{span}-{:02x}", u8::from(sampled)))
    }

    pub(crate) fn context(&self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        let (trace, span) = (TraceId::from_bytes(self.trace), SpanId::from_bytes(self.span));
        SpanContext::new(trace, span, flags, true, TraceState::default())
    }

    pub(crate) fn of_context(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace: context.trace_id().to_bytes(),
            span: context.span_id().to_bytes(),
            sampled: context.is_sampled(),
        })
    }

    pub(super) fn ids(&self) -> (TraceId, SpanId) {
        (TraceId::from_bytes(self.trace), SpanId::from_bytes(self.span))
    }
}

/// Never the invalid id of all zeros.
fn span_id(trace: &[u8; 16], name: &[u8]) -> [u8; 8] {
    let hash =
        Sha256::new().chain_update(b"muster span v1").chain_update(trace).chain_update(name).finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&hash[..8]);
    if id == [0; 8] { [1; 8] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(value: &str) -> Option<Place> {
        Place::of_headers(&[("Traceparent".to_owned(), value.to_owned())])
    }

    #[test]
    fn a_place_survives_a_header() {
        let place = of(PARENT).expect("a place");
        assert!(place.is_sampled());
        assert_eq!(place.header().1, PARENT);
        let other = place.named("slice dns 1");
        assert_eq!(other.trace_id(), place.trace_id());
        assert_ne!(other, place);
        assert_eq!(of(&other.header().1), Some(other));
        assert_eq!(other, place.named("slice dns 1"), "everybody comes to the same");
    }

    #[test]
    fn what_is_no_place_is_none() {
        for value in [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
        assert!(of(later).is_some_and(|place| !place.is_sampled()));
    }
}
