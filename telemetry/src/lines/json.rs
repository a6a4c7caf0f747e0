//! One event as one JSON object: what it says, where it was said, and which trace and round it belongs to.

use std::fmt;

use opentelemetry::Context as TraceContext;
use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::fold::folded_before;

/// Keys of the object itself; a field of that name is told behind `field_`.
const OWN: [&str; 7] = ["timestamp", "level", "target", "message", "trace_id", "span_id", "folded"];

/// `timestamp`, `level`, `target`, `message`, then the fields of the event and of the spans around it (the inner ones win), then
/// `trace_id` and `span_id` where there is a trace; `folded` where the same was said that often before and left out.
pub(super) struct Json;

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Map::new();
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        line.insert("message".to_owned(), fields.0.remove("message").unwrap_or_default());
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(formatted) = extensions.get::<FormattedFields<JsonFields>>() else { continue };
            let Ok(of_span) = serde_json::from_str::<Map<String, Value>>(formatted) else { continue };
            for (key, value) in of_span {
                fields.0.entry(key).or_insert(value);
            }
        }
        for (key, value) in fields.0 {
            let key = if OWN.contains(&key.as_str()) { format!("field_{key}") } else { key };
            line.insert(key, value);
        }
        let folded = folded_before();
        if folded > 0 {
            line.insert("folded".to_owned(), folded.into());
        }
        let trace = TraceContext::current();
        let span = trace.span();
        if span.span_context().is_valid() {
            line.insert("trace_id".to_owned(), span.span_context().trace_id().to_string().into());
            line.insert("span_id".to_owned(), span.span_context().span_id().to_string().into());
        }
        writeln!(writer, "{}", spelled(&Value::Object(line).to_string()))
    }
}

/// JSON without characters that a screen would obey: they stand in texts only, where JSON lets them be spelled out.
fn spelled(json: &str) -> String {
    let obeyed = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !json.contains(obeyed) {
        return json.to_owned();
    }
    json.chars().fold(String::new(), |mut text, c| {
        if obeyed(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
        text
    })
}

/// Fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, fmt};

    use super::*;
    use crate::export;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("kept").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_what_was_said_and_where_it_belongs() {
        let (kept, provider) = (Kept::default(), SdkTracerProvider::builder().build());
        let writer = kept.clone();
        let lines =
            fmt::layer().fmt_fields(JsonFields::new()).event_format(Json).with_writer(move || writer.clone());
        let subscriber =
            tracing_subscriber::registry().with(export::span_layer(&provider)).with(lines.boxed());
        tracing::subscriber::with_default(subscriber, || {
            let _slice = tracing::info_span!("slice", service = "dns", round = "ab").entered();
            tracing::warn!(round = 7_u64, level = "field", obeyed = "\u{202e}x", "a \"quoted\"\nline");
        });
        let text = String::from_utf8(kept.0.lock().expect("kept").clone()).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("an object");
        assert!(!text.contains('\u{202e}') && line["obeyed"] == "\u{202e}x", "{text}");
        assert_eq!(line["message"], "a \"quoted\"\nline");
        assert_eq!((&line["level"], &line["field_level"]), (&"WARN".into(), &"field".into()));
        assert_eq!(
            (&line["service"], &line["round"]),
            (&"dns".into(), &7.into()),
            "the event's own field wins"
        );
        assert_eq!(line["trace_id"].as_str().map(str::len), Some(32), "{line}");
        assert_eq!(line["span_id"].as_str().map(str::len), Some(16));
    }
}
