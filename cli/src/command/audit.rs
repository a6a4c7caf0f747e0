//! `muster audit`: who did what, from the log: newest first, page by page. Works from the share alone.

use muster_coordinator::view::audit::{AuditView, Entry, KINDS, Page as Asked, since};

use crate::args::{Audit, Page, Reading};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::Fleet;
use crate::screen;

/// Shows it.
pub(crate) async fn run(args: Audit) -> Outcome {
    if let Some(kind) = args.kind.as_ref().filter(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(Failure::usage(format!("--kind: there are no records of kind {kind:?}"))
            .because(format!("There are {}.", KINDS.join(", "))));
    }
    show(&args.reading, &args.page, args.kind.as_deref()).await
}

/// Shows the records of one kind, or of all.
pub(crate) async fn show(reading: &Reading, page: &Page, kind: Option<&str>) -> Outcome {
    let since = page.since.as_deref().map(|text| since(text, screen::now())).transpose();
    let since = since.map_err(|must| Failure::usage(format!("--since {must}")))?;
    let fleet = Fleet::open(reading).await?;
    let asked = Asked { since, limit: page.limit, before: page.before, kind };
    let view = AuditView::read(&fleet.shown(), &asked).await?;
    if reading.json {
        screen::json(&view);
        return Ok(Exit::Done);
    }
    let AuditView { entries, next, .. } = view;
    if entries.is_empty() {
        screen::line("nothing of the kind is in this part of the log");
    } else {
        let rows = entries.into_iter().map(row).collect();
        screen::lines(screen::table(&["record", "when", "who", "what"], rows));
    }
    if let Some(next) = next {
        screen::line(format!("→ --before {next}   goes on from here; --limit 0 shows all"));
    }
    Ok(Exit::Done)
}

fn row(entry: Entry) -> Vec<String> {
    let mut what = entry.what;
    if let Some(reason) = entry.reason {
        what.push_str(&format!(": {reason}"));
    }
    if let Some(why) = entry.without_effect {
        what.push_str(&format!(" (without effect: {why})"));
    }
    let when = entry.time.map_or_else(|| "-".to_owned(), screen::time);
    vec![entry.number.to_string(), when, format!("{} ({})", entry.who, entry.role), what]
}
