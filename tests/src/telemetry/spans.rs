//! A trace as a tree.

use std::collections::{BTreeMap, BTreeSet};

use super::otlp::Span;

/// All spans of one trace.
#[derive(Debug, Clone)]
pub struct Trace {
    /// In no order.
    pub spans: Vec<Span>,
}

impl Trace {
    /// The spans by their traces' ids. A span that arrived twice counts once.
    #[must_use]
    pub fn all(spans: &[Span]) -> BTreeMap<String, Self> {
        let mut traces: BTreeMap<String, Self> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for span in spans.iter().filter(|span| seen.insert(span.id.clone())) {
            traces
                .entry(span.trace.clone())
                .or_insert_with(|| Self { spans: Vec::new() })
                .spans
                .push(span.clone());
        }
        traces
    }

    /// Spans whose parent is none of these.
    #[must_use]
    pub fn roots(&self) -> Vec<&Span> {
        let ids: BTreeSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        self.spans.iter().filter(|span| !ids.contains(span.parent.as_str())).collect()
    }

    /// All of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// The span that this one is part of.
    #[must_use]
    pub fn parent(&self, span: &Span) -> Option<&Span> {
        self.spans.iter().find(|other| other.id == span.parent)
    }

    /// The names from the first span down to this one.
    #[must_use]
    pub fn path(&self, span: &Span) -> Vec<String> {
        let (mut names, mut at) = (vec![span.name.clone()], span);
        // A span that is its own ancestor would not end it.
        while let Some(parent) = self.parent(at).filter(|_| names.len() <= self.spans.len()) {
            names.push(parent.name.clone());
            at = parent;
        }
        names.reverse();
        names
    }

    /// The tree as lines, for who looks at a failure.
    #[must_use]
    pub fn drawn(&self) -> String {
        let mut lines: Vec<(u64, String)> = self
            .spans
            .iter()
            .map(|span| {
                let from = span.resource.get("service.instance.id").map_or("?", String::as_str);
                (span.began, format!("{} ({}, {from})", self.path(span).join(" / "), span.kind))
            })
            .collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line + "\n").collect()
    }
}
