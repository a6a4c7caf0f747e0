//! Lines on standard error: for people on a terminal, JSON for collectors of logs, and neither of them a flood.

mod fold;
mod json;

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt, Targets};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

pub(crate) use fold::Fold;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people where standard error is a terminal, else JSON.
    #[default]
    Auto,
    /// One line for people, coloured only on a terminal.
    Text,
    /// One JSON object per line, for collectors of logs.
    Json,
}

/// The layer that writes them.
pub(crate) fn layer<S>(format: Format, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    // What the exporters say of themselves is told in our words, once, where they are.
    let own = Targets::new().with_default(LevelFilter::TRACE).with_target("opentelemetry", LevelFilter::OFF);
    let filter = filter.and(own);
    let is_terminal = std::io::stderr().is_terminal();
    let is_text = match format {
        Format::Auto => is_terminal,
        Format::Text => true,
        Format::Json => false,
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    if is_text {
        lines.with_ansi(is_terminal).with_filter(filter).boxed()
    } else {
        lines.fmt_fields(JsonFields::new()).event_format(json::Json).with_filter(filter).boxed()
    }
}
