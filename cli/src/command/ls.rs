//! `muster ls ROUND [PATH]`: services, sources and entries of a round, one level or all of them.

use std::ops::ControlFlow;

use muster_agent::recover::{Slice, look::LookError};
use muster_protocol::units::format_size;
use muster_share::entry::{Entry, Kind};
use muster_share::lists::IndexedSource;
use serde::Serialize;

use crate::args::Ls;
use crate::entry_view::{EntryView, long_line};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::looking::{Lines, Looked, Place, blocking};
use crate::reading_back::path_text;
use crate::screen;

/// `{"schema":"muster.service/1", …}`
#[derive(Debug, Serialize)]
struct ServiceView<'a> {
    schema: &'static str,
    service: &'a str,
    /// `stored` or `absent`
    state: &'static str,
    reason: Option<String>,
    entries: u64,
    source_bytes: u64,
    gaps: u64,
}

/// `{"schema":"muster.source/1", …}`
#[derive(Debug, Serialize)]
struct SourceView<'a> {
    schema: &'static str,
    service: &'a str,
    source: &'a str,
    kind: &'a str,
    entries: u64,
    /// How a person brings it back without Muster.
    recipe: &'a str,
}

/// Lists.
pub(crate) async fn run(args: Ls) -> Outcome {
    let place = args.path.as_deref().map(Place::parse).transpose()?.unwrap_or_default();
    let json = args.looking.reading.json;
    let looked = Looked::open(&args.looking).await?;
    let Some(service) = place.service.clone() else {
        return if args.recursive { everything(&looked, json).await } else { Ok(services(&looked, json)) };
    };
    let slice = looked.round.slice(&service).await.map_err(|error| looked.failure(error))?;
    if let Some(source) = &place.source
        && !slice.sources().iter().any(|known| known.name == *source)
    {
        let known: Vec<_> = slice.sources().iter().map(|source| source.name.as_str()).collect();
        return Err(Failure::usage(format!(
            "{service} has no source {source} in this round; it has {}",
            known.join(", ")
        )));
    }
    if place.source.is_none() && !args.recursive {
        sources(&slice, json);
        return Ok(looked.end(&[]));
    }
    let (listed, seen) = list(slice, place.clone(), args.recursive, json).await;
    listed.map_err(|error| looked.failure(error))?;
    if !seen {
        return Err(Failure::usage(format!("{place} is not in this round"))
            .next("muster find ROUND PATTERN --kit PATH looks for it"));
    }
    Ok(looked.end(&[]))
}

/// The services of the round, from its manifest alone.
fn services(looked: &Looked, json: bool) -> Exit {
    let manifest = looked.round.manifest();
    let mut rows = Vec::new();
    for slice in &manifest.slices {
        let totals = &slice.totals;
        if json {
            screen::json(&ServiceView {
                schema: "muster.service/1",
                service: slice.service.as_str(),
                state: "stored",
                reason: None,
                entries: totals.entries,
                source_bytes: totals.source_bytes,
                gaps: totals.gaps,
            });
        }
        let (service, bytes) = (format!("{}/", slice.service), format_size(totals.source_bytes));
        rows.push(vec![service, totals.entries.to_string(), bytes, totals.gaps.to_string(), String::new()]);
    }
    for absentee in &manifest.absent {
        let reason = format!("{}: {}", absentee.code, absentee.reason);
        if json {
            screen::json(&ServiceView {
                schema: "muster.service/1",
                service: absentee.service.as_str(),
                state: "absent",
                reason: Some(reason.clone()),
                entries: 0,
                source_bytes: 0,
                gaps: 0,
            });
        }
        let dash = || "-".to_owned();
        rows.push(vec![absentee.service.to_string(), dash(), dash(), dash(), format!("absent, {reason}")]);
    }
    if !json {
        screen::lines(screen::table(&["service", "entries", "source", "gaps", ""], rows));
    }
    looked.end(&[])
}

fn sources(slice: &Slice, json: bool) {
    let mut rows = Vec::new();
    for source in slice.sources() {
        if json {
            screen::json(&source_view(slice, source));
        }
        rows.push(vec![format!("{}/", source.name), source.kind.clone(), source.entries.to_string()]);
    }
    if !json {
        screen::lines(screen::table(&["source", "kind", "entries"], rows));
    }
}

fn source_view<'a>(slice: &'a Slice, source: &'a IndexedSource) -> SourceView<'a> {
    SourceView {
        schema: "muster.source/1",
        service: slice.service().as_str(),
        source: source.name.as_str(),
        kind: &source.kind,
        entries: source.entries,
        recipe: &source.recipe,
    }
}

/// Every entry of the round. What is damaged of one service does not hide the others.
async fn everything(looked: &Looked, json: bool) -> Outcome {
    let mut damaged = Vec::new();
    for service in looked.services(&[]) {
        let listed = match looked.round.slice(&service).await {
            Ok(slice) => {
                list(slice, Place { service: Some(service), ..Place::default() }, true, json).await.0
            }
            Err(error) => Err(error),
        };
        match listed {
            Ok(()) => {}
            Err(LookError::Damaged(damage)) => damaged.push(damage),
            Err(error) => return Err(looked.failure(error)),
        }
    }
    Ok(looked.end(&damaged))
}

/// Lists what lies at or below a place; and whether anything did.
async fn list(slice: Slice, place: Place, recursive: bool, json: bool) -> (Result<(), LookError>, bool) {
    blocking(move || {
        let mut lines = Lines::new();
        let mut seen = false;
        let listed = slice.look(|source, entry| {
            if place.source.as_ref().is_some_and(|wanted| *wanted != source.name) {
                return if seen { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            let Some(name) = shown_name(&place, source, &entry, recursive) else {
                // Entries come in order: what lies below a place comes in one run.
                let over = seen && !is_at_or_below(&entry.path, &place.path);
                return if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            };
            seen = true;
            if name.is_empty() {
                return ControlFlow::Continue(());
            }
            if json {
                lines.json(&EntryView::new(slice.service(), &source.name, &entry))
            } else {
                lines.line(&long_line(&entry, &name))
            }
        });
        lines.flush();
        (listed, seen)
    })
    .await
}

/// Under which name an entry is listed; empty for the folder itself that is listed, none for what is not.
fn shown_name(place: &Place, source: &IndexedSource, entry: &Entry, recursive: bool) -> Option<String> {
    if !is_at_or_below(&entry.path, &place.path) {
        return None;
    }
    let folder = if entry.kind == Kind::Directory { "/" } else { "" };
    let rest = entry.path[place.path.len()..].strip_prefix(b"/").unwrap_or(&entry.path[place.path.len()..]);
    if place.source.is_none() {
        let slash = if rest.is_empty() { "" } else { "/" };
        let service = place.service.as_ref().map(|service| format!("{service}/")).unwrap_or_default();
        return Some(format!("{service}{}{slash}{}{folder}", source.name, path_text(rest)));
    }
    if rest.is_empty() {
        // A file that is named itself is listed; a folder stands for what lies in it.
        let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        return Some(if folder.is_empty() { path_text(name) } else { String::new() });
    }
    (recursive || !rest.contains(&b'/')).then(|| format!("{}{folder}", path_text(rest)))
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::shown_name;
    use crate::looking::Place;
    use muster_share::entry::{Entry, Kind};
    use muster_share::lists::IndexedSource;

    #[test]
    fn one_level_is_shown_or_all_of_them() {
        let source = IndexedSource {
            name: "files".parse().expect("a name"),
            kind: "files".to_owned(),
            entries: 1,
            recipe: String::new(),
            tool_versions: Default::default(),
            skipped: 0,
            mounts: 0,
        };
        let shown = |place: &str, path: &[u8], kind: Kind, recursive: bool| {
            let place = Place::parse(place.as_ref()).expect("a place");
            shown_name(&place, &source, &Entry::new(path.to_vec(), kind, 0), recursive)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(shown("a/files", b"", Kind::Directory, false), some(""));
        assert_eq!(shown("a/files", b"etc", Kind::Directory, false), some("etc/"));
        assert_eq!(shown("a/files", b"etc/x", Kind::File, false), None);
        assert_eq!(shown("a/files", b"etc/x", Kind::File, true), some("etc/x"));
        assert_eq!(shown("a/files/etc", b"etc/x", Kind::File, false), some("x"));
        assert_eq!(shown("a/files/etc", b"etcetera", Kind::File, false), None);
        assert_eq!(shown("a/files/etc/x", b"etc/x", Kind::File, false), some("x"));
        assert_eq!(shown("a", b"", Kind::Directory, true), some("a/files/"));
        assert_eq!(shown("a", b"etc/x", Kind::File, true), some("a/files/etc/x"));
    }
}
