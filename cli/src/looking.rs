//! What `ls`, `find` and `dump` share: the way to a round's slices, and places in a round as an operator writes them.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use muster_agent::recover::look::LookError;
use muster_agent::recover::{Origin, Round};
use muster_protocol::age::Identity;
use muster_protocol::config::ShareConfig;
use muster_protocol::ids::{ServiceName, SourceName};
use muster_protocol::log::Pin;
use muster_share::log::HeadMemory;
use muster_share::verify::Damage;
use serde::Serialize;

use crate::args::{Looking, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{hold_to, open_store, operator, share_at};
use crate::kit::Kit;
use crate::reading_back::{damage_line, path_text, round_failure, selector};
use crate::screen;

/// A round that was opened with the kit.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Its slices.
    pub(crate) round: Round,
    keys: Arc<Vec<Identity>>,
}

impl Looked {
    /// Opens the round that the arguments name.
    ///
    /// # Errors
    /// When share or kit cannot be used, or the round cannot be believed.
    pub(crate) async fn open(args: &Looking) -> Result<Self, Failure> {
        let kit = Kit::open(&args.kit)?;
        let (share, pin) = place(&args.reading, &kit)?;
        let store = open_store(&share).await?;
        hold_to(&store, Pin { head: None, ..pin }, &args.reading.expect).await?;
        let keys = kit.keys;
        let origin = Origin { store, pin, keys: Arc::clone(&keys), round: selector(&args.round) };
        match Round::open(origin).await {
            Ok(round) => Ok(Self { round, keys }),
            Err(error) => Err(round_failure(error, &keys)),
        }
    }

    /// Why a look at it failed.
    pub(crate) fn failure(&self, error: LookError) -> Failure {
        failure(error, &self.keys)
    }

    /// The services that are meant: the one that is named, or all that the round holds.
    pub(crate) fn services(&self, only: &[ServiceName]) -> Vec<ServiceName> {
        if only.is_empty() {
            self.round.manifest().slices.iter().map(|slice| slice.service.clone()).collect()
        } else {
            only.to_vec()
        }
    }

    /// Tells on standard error what of the share is damaged though it led to the round, and how the command then ends.
    pub(crate) fn end(&self, damaged: &[Damage]) -> Exit {
        for damage in self.round.damaged().iter().chain(damaged) {
            screen::aside(damage_line(damage));
        }
        if self.round.damaged().is_empty() && damaged.is_empty() { Exit::Done } else { Exit::Damaged }
    }
}

/// The share's address, and what the kit and the operator's memory pin of it.
pub(crate) fn place(reading: &Reading, kit: &Kit) -> Result<(ShareConfig, Pin), Failure> {
    if let Some(url) = &reading.share {
        return Ok((share_at(url)?, Pin { root: Some(kit.root), fleet: None, head: None }));
    }
    let operator = operator(reading.config.as_deref())?;
    if operator.fleet.root != kit.root {
        return Err(Failure::new(Exit::Key, "the kit belongs to another fleet than the configuration")
            .next("take the kit of this fleet, or name its share with --share"));
    }
    let head = HeadMemory::at(&operator.head_file()).recall()?;
    let pin = Pin { root: Some(kit.root), fleet: Some(operator.fleet.id), head };
    Ok((operator.share, pin))
}

fn failure(error: LookError, keys: &[Identity]) -> Failure {
    match error {
        LookError::Round(error) => round_failure(error, keys),
        LookError::Damaged(damage) => {
            Failure::new(Exit::Damaged, "VERIFY-01: what the round needs is damaged")
                .because(damage_line(&damage))
                .next("another round may hold it whole: muster rounds lists them")
        }
        LookError::Output(_) => Failure::new(Exit::Failed, error.to_string()).caused_by(&error),
    }
}

/// `SERVICE[/SOURCE[/PATH]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) service: Option<ServiceName>,
    pub(crate) source: Option<SourceName>,
    /// Within the source; empty for its root.
    pub(crate) path: Vec<u8>,
}

impl Place {
    /// Reads it; slashes at either end are passed over.
    ///
    /// # Errors
    /// Exit 2 when it cannot name anything.
    pub(crate) fn parse(text: &std::ffi::OsStr) -> Result<Self, Failure> {
        let shown = path_text(text.as_bytes());
        let wrong = |why: String| {
            Failure::usage(format!("{shown} names nothing in a round"))
                .because(why)
                .next("write SERVICE/SOURCE/PATH; muster ls ROUND --kit PATH lists the services")
        };
        let mut rest = text.as_bytes();
        while let Some(shorter) = rest.strip_prefix(b"/") {
            rest = shorter;
        }
        while let Some(shorter) = rest.strip_suffix(b"/") {
            rest = shorter;
        }
        let mut parts = rest.splitn(3, |byte| *byte == b'/').filter(|part| !part.is_empty());
        let mut name = || parts.next().map(|part| String::from_utf8_lossy(part).into_owned());
        let (service, source) = (name(), name());
        let path = parts.next().unwrap_or_default().to_vec();
        if path.split(|byte| *byte == b'/').any(|part| matches!(part, b"." | b"..")) {
            return Err(wrong("paths in a round have no part . or ..".to_owned()));
        }
        let service = service.map(|name| name.parse()).transpose();
        let source = source.map(|name| name.parse()).transpose();
        Ok(Self {
            service: service.map_err(|error| wrong(format!("{error}")))?,
            source: source.map_err(|error| wrong(format!("{error}")))?,
            path,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let service = self.service.as_ref().map(ServiceName::as_str).unwrap_or_default();
        let source = self.source.as_ref().map(SourceName::as_str).unwrap_or_default();
        match (source.is_empty(), self.path.is_empty()) {
            (true, _) => f.write_str(service),
            (false, true) => write!(f, "{service}/{source}"),
            (false, false) => write!(f, "{service}/{source}/{}", path_text(&self.path)),
        }
    }
}

/// Lines on standard output, gathered; who reads them may go away, which is no error.
#[derive(Debug)]
pub(crate) struct Lines(std::io::BufWriter<std::io::Stdout>);

impl Lines {
    pub(crate) fn new() -> Self {
        Self(std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout()))
    }

    /// Writes one; `Break` when nobody reads any more.
    pub(crate) fn line(&mut self, text: &str) -> std::ops::ControlFlow<()> {
        match writeln!(self.0, "{text}") {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(_) => std::ops::ControlFlow::Break(()),
        }
    }

    /// Writes one JSON document; `Break` when nobody reads any more.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> std::ops::ControlFlow<()> {
        self.line(&serde_json::to_string(value).expect("our own answers are JSON"))
    }

    /// Everything is out, or nobody reads any more.
    pub(crate) fn flush(&mut self) {
        drop(self.0.flush());
    }
}

/// Runs what reads a slice, off the event loop.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::exit::Exit;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn place(text: &[u8]) -> Place {
        Place::parse(OsStr::from_bytes(text)).expect("a place")
    }

    #[test]
    fn places_have_a_service_a_source_and_a_path() {
        assert_eq!(place(b"/"), Place::default());
        assert_eq!(place(b"dns/").to_string(), "dns");
        assert_eq!(place(b"/dns/files/").to_string(), "dns/files");
        assert_eq!(place(b"dns/files/a/b\xff").path, b"a/b\xff");
        assert_eq!(place(b"dns/files/a\n").to_string(), "dns/files/a\\n");
        for bad in ["DNS", "dns/..", "dns/files/../x", "dns/files/./x"] {
            assert_eq!(Place::parse(OsStr::new(bad)).expect_err("refused").exit(), Exit::Usage, "{bad}");
        }
    }
}
