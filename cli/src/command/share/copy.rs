//! `muster share copy URL`: a second share with all that the first one holds, for the day the first one is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_protocol::config::ShareConfig;
use muster_protocol::units::format_size;
use muster_share::copy::{CopyError, Report, copy};
use muster_share::store::limited::Limited;
use muster_share::verify::Progress;
use serde::Serialize;

use crate::args::ShareCopy;
use crate::command::init::plan::share_folder;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Fleet, address, create_store};
use crate::reading_back::{DamageView, alert, count, damage_line, show_progress};
use crate::round_view::HeadView;
use crate::screen;

/// `{"schema":"muster.share-copy/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    share: String,
    copy: String,
    /// The head that the copy holds now.
    head: HeadView,
    /// Slots of the log that were copied.
    records: u64,
    copied: Counted,
    /// How many of the copied objects replace torn ones.
    mended: u64,
    present: Counted,
    deleted: Counted,
    /// The newest committed round of the copy.
    newest_round: Option<u64>,
    /// What the share itself does not have whole.
    damaged: Vec<DamageView>,
}

#[derive(Debug, Serialize)]
struct Counted {
    objects: u64,
    bytes: u64,
}

/// Copies.
pub(super) async fn run(args: ShareCopy) -> Outcome {
    tokio::select! {
        outcome = copy_share(args) => outcome,
        _ = tokio::signal::ctrl_c() => {
            screen::aside("interrupted: what was copied stays; the same command goes on");
            Ok(Exit::Interrupted)
        }
    }
}

async fn copy_share(args: ShareCopy) -> Outcome {
    let to = second(&args)?;
    let mut fleet = Fleet::open(&args.reading).await?;
    apart(&fleet.share.url, &to.url)?;
    let mut target = create_store(&to).await.map_err(of_the_copy)?;
    if args.bandwidth.0 > 0 {
        target = Arc::new(Limited::writes(target, args.bandwidth.0));
    }
    let progress = Progress::default();
    let work = copy(&mut fleet.log, &target, args.prune, &progress);
    let report = show_progress(work, &progress, "copying", || None).await.map_err(failure)?;
    fleet.remember()?;
    if args.reading.json {
        screen::json(&view(&fleet, &to.url, &report));
    } else {
        print(&fleet, &to.url, &report);
    }
    Ok(if report.damaged.is_empty() { Exit::Done } else { Exit::Damaged })
}

/// The second share. Nothing that tells of the first one counts for it.
fn second(args: &ShareCopy) -> Result<ShareConfig, Failure> {
    let absolute = |file: &Option<PathBuf>| match file {
        Some(file) => std::path::absolute(file).map_err(|error| {
            Failure::usage(format!("{}: {error}", file.display())).next("give another path")
        }),
        None => Ok(PathBuf::new()),
    };
    let url = address(&args.to)?;
    let (credentials, ca) = (absolute(&args.to_credentials)?, absolute(&args.to_ca)?);
    Ok(ShareConfig { credentials, ca, ..ShareConfig::at(url) })
}

/// A copy in the share's own folder is lost with it, and one around it holds it.
fn apart(share: &str, copy: &str) -> Result<(), Failure> {
    let meets = match (share_folder(share), share_folder(copy)) {
        (Some(share), Some(copy)) => {
            let (share, copy) = (in_full(&share), in_full(&copy));
            share.starts_with(&copy) || copy.starts_with(&share)
        }
        (Some(_), None) | (None, Some(_)) => false,
        (None, None) => {
            let parts = |url: &str| {
                let (place, query) = url.split_once('?').unwrap_or((url, ""));
                (format!("{}/", place.trim_end_matches('/')), query.to_owned())
            };
            let ((share, at), (copy, with)) = (parts(share), parts(copy));
            at == with && (share.starts_with(&copy) || copy.starts_with(&share))
        }
    };
    if !meets {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("{copy} and the share {share} lie within each other"))
        .because("Nothing was copied: what takes the one away would take both.")
        .next("copy to an empty folder, bucket or share elsewhere"))
}

/// The folder without links, as far as it is there.
fn in_full(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    match there {
        Some((part, real)) => real.join(folder.strip_prefix(part).unwrap_or(Path::new(""))),
        None => folder.to_owned(),
    }
}

fn of_the_copy(failure: Failure) -> Failure {
    failure.because("That is the second share; the first one can be read.")
}

fn failure(error: CopyError) -> Failure {
    let of = |exit, error: &CopyError| Failure::new(exit, error.to_string()).caused_by(error);
    match error {
        CopyError::Source(error) => error.into(),
        CopyError::Target(error) => of_the_copy(error.into()),
        CopyError::Log(error) => error.into(),
        CopyError::List(_) => {
            of(Exit::Damaged, &error).next("muster verify names everything that is damaged")
        }
        CopyError::Format { .. } | CopyError::OtherFleet { .. } | CopyError::NotEmpty { .. } => {
            of(Exit::Refused, &error).next("copy to an empty folder, bucket or share; one for each fleet")
        }
        CopyError::TargetLog { .. } => of(Exit::Damaged, &error)
            .because("The first share is none the worse.")
            .next("copy to another place, and look at this one with: muster verify --share URL"),
        CopyError::NotACopy { .. } => of(Exit::Refused, &error)
            .because("Nothing was changed.")
            .next("the share comes first, its copy second: muster share copy COPY --share SHARE")
            .next("a folder that was copied by other means: copy to a new, empty one instead"),
        CopyError::Parted { ref copy, ref head, .. } => {
            let why = format!("The share stands at record {}, the copy at {}.", head.number, copy.number);
            of(Exit::Refused, &error)
                .because(why)
                .because("Either the share lost records, or the copy was adopted and went its own way.")
                .next("compare both: muster rounds --share URL")
                .next("the copy has what the share lost: muster adopt --share COPY --root PATH makes it the share")
                .next("the copy is not needed any more: copy to a new, empty place")
        }
        CopyError::Torn { .. } => of(Exit::Refused, &error)
            .next("delete it there by hand, or copy with credentials that may delete on the copy"),
        CopyError::Altered { .. } => of(Exit::Damaged, &error)
            .because("The copy is not to be trusted with backups as it is.")
            .next("muster share test --share URL says more"),
    }
}

fn view(fleet: &Fleet, to: &str, report: &Report) -> View {
    let counted = |tally: &muster_share::prune::Tally| Counted { objects: tally.objects, bytes: tally.bytes };
    View {
        schema: "muster.share-copy/1",
        fleet: fleet.name(),
        share: fleet.share.url.clone(),
        copy: to.to_owned(),
        head: HeadView { number: report.head.number, hash: report.head.hash.to_string() },
        records: report.records,
        copied: counted(&report.copied),
        mended: report.mended,
        present: counted(&report.present),
        deleted: counted(&report.deleted),
        newest_round: newest(fleet, report),
        damaged: report.damaged.iter().map(DamageView::new).collect(),
    }
}

/// The newest round that can be recovered from what was copied.
fn newest(fleet: &Fleet, report: &Report) -> Option<u64> {
    let rounds = fleet.state().rounds.values().filter(|round| round.is_recoverable());
    let copied =
        rounds.filter(|round| round.commit_position().is_some_and(|commit| commit <= report.head.number));
    copied.map(|round| round.open.number).max()
}

fn print(fleet: &Fleet, to: &str, report: &Report) {
    screen::line(format!("{} · {} → {to} · log head {}", fleet.name(), fleet.share.url, report.head.number));
    screen::line(format!(
        "copied {}, {} and {} of the log; {} were there",
        count(report.copied.objects, "object"),
        format_size(report.copied.bytes),
        count(report.records, "record"),
        count(report.present.objects, "object"),
    ));
    if report.mended > 0 {
        screen::line(format!("{} on the copy written anew", count(report.mended, "torn object")));
    }
    if report.deleted.objects > 0 {
        screen::line(format!(
            "deleted {}, {}, which prune took from the share",
            count(report.deleted.objects, "object"),
            format_size(report.deleted.bytes)
        ));
    }
    for damage in &report.damaged {
        screen::line(damage_line(damage));
    }
    let newest = match newest(fleet, report) {
        Some(number) => format!("newest round on the copy: {number}"),
        None => "there is no committed round yet".to_owned(),
    };
    screen::line(newest);
    match report.damaged.first() {
        Some(damage) => screen::line(format!(
            "{}: the share itself lacks {}; all else is on the copy   → muster verify",
            alert(damage),
            count(report.damaged.len() as u64, "object")
        )),
        None => {
            screen::line("every object that was copied was compared with its hash, written, and read back");
            if report.present.objects > 0 {
                screen::line(format!(
                    "those that were there were found by name and length   → muster verify --share {to}   reads them"
                ));
            }
        }
    }
}
