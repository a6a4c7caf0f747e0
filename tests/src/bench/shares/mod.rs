//! Shares of each kind beside their stock clients: the same bytes in the same run, to a server on loopback.
//!
//! ```text
//! agent    a round of files that compress to nothing, from the agent's hello to its notice: read, cut, hashed, sealed,
//!          checked, written. Not the coordinator's reading it all again
//! copy     `share copy` of the share that a folder holds, each object compared and read back
//! client   the stock client with the same files, or with the same objects; it seals nothing and reads nothing back
//! ```

mod backend;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

use super::measure;
use super::rng::Rng;
use super::tools::Place;
use crate::fleet::secret;
use backend::Backend;

/// Length of a file, as of a pack.
const FILE: usize = 12 << 20;

/// What is measured, and where.
#[derive(Debug, Clone)]
pub struct SharesBench {
    /// Files of 12 MiB.
    pub files: usize,
    /// Repetitions of each.
    pub repetitions: usize,
    /// A folder in it holds all files, and is removed again.
    pub work: PathBuf,
    /// The muster that is measured.
    pub muster: PathBuf,
    /// The kinds of shares: `folder`, `smb`, `s3`, `azure`; none: all.
    pub only: Vec<String>,
}

/// Medians for one kind of share, in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct ShareRow {
    /// The kind.
    pub share: &'static str,
    /// Its stock client.
    pub client: &'static str,
    /// The agent's slice.
    pub agent_secs: f64,
    /// The stock client with the same files.
    pub client_secs: f64,
    /// `share copy`.
    pub copy_secs: f64,
    /// The stock client with the same objects.
    pub client_copy_secs: f64,
}

/// `{"schema":"muster.bench-shares/1", …}`
#[derive(Debug, Clone, Serialize)]
pub struct SharesRecord {
    schema: &'static str,
    cores: usize,
    bytes: u64,
    repetitions: usize,
    rows: Vec<ShareRow>,
}

impl SharesBench {
    /// Measures, and tells each step as it ends.
    ///
    /// # Errors
    /// When a folder fails, or a command does.
    pub fn run(&self, tell: &mut dyn FnMut(String)) -> io::Result<SharesRecord> {
        let work = tempfile::Builder::new().prefix("muster-bench-").tempdir_in(&self.work)?;
        let work = work.path();
        let (source, home) = (work.join("source"), work.join("home"));
        fs::create_dir(&source)?;
        fs::create_dir(&home)?;
        let mut rng = Rng::new(7);
        let mut bytes = vec![0; FILE];
        for number in 0..self.files {
            rng.fill(&mut bytes);
            fs::write(source.join(format!("file-{number:03}")), &bytes)?;
        }
        // The share that is copied: of the same bytes, sealed.
        let origin =
            self.fleet(work, "origin", &work.join("origin-share").display().to_string(), "", &source)?;
        self.muster(&["once", &origin])?;
        let place = Place { src: source.clone(), repo: work.join("none"), dst: work.join("none"), home };
        let mut rows = Vec::new();
        for (_, start) in Backend::all().into_iter().filter(|(slug, _)| self.measures(slug)) {
            let backend = start();
            let mut samples = [const { Vec::new() }; 4];
            for number in 0..self.repetitions {
                let round = self.repetition(&backend, work, &origin, number, &place)?;
                tell(format!(
                    "{} {}: agent {:.2} s, {} {:.2} s, copy {:.2} s, {} {:.2} s",
                    number + 1,
                    backend.name(),
                    round[0],
                    backend.client(),
                    round[1],
                    round[2],
                    backend.client(),
                    round[3]
                ));
                samples.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
            }
            let [agent_secs, client_secs, copy_secs, client_copy_secs] = samples.map(median);
            let (share, client) = (backend.name(), backend.client());
            rows.push(ShareRow { share, client, agent_secs, client_secs, copy_secs, client_copy_secs });
        }
        Ok(SharesRecord {
            schema: "muster.bench-shares/1",
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            bytes: (self.files * FILE) as u64,
            repetitions: self.repetitions,
            rows,
        })
    }

    fn measures(&self, slug: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == slug)
    }

    /// Agent, client, copy, client once each, in seconds. What they wrote is left: servers are gone with their value.
    fn repetition(
        &self,
        backend: &Backend,
        work: &Path,
        origin: &str,
        number: usize,
        place: &Place,
    ) -> io::Result<[f64; 4]> {
        let at = |what: &str| format!("{what}-{number}");
        let (share, copied) = (backend.url(work, &at("share")), backend.url(work, &at("copied")));
        let warm = || super::data::warm(&place.src);
        warm()?;
        let fleet = self.fleet(
            work,
            &format!("fleet-{}-{number}", backend.slug()),
            &share,
            &backend.credentials(),
            &place.src,
        )?;
        self.muster(&["once", &fleet])?;
        let config = format!("{fleet}/operator.toml");
        let shown = self.muster(&["show", "1", "--json", "--config", &config])?;
        let timing = &shown["services"][0]["timing"];
        let millis =
            |key: &str| timing[key].as_f64().ok_or_else(|| io::Error::other(format!("no {key}: {shown}")));
        let agent = (millis("noticed_millis")? - millis("greeted_millis")?) / 1e3;
        warm()?;
        let client = measure::run(&backend.copy(&place.src, work, &at("client")), place)?.wall_secs;
        let credentials = work.join("copy.credentials");
        let config = format!("{origin}/operator.toml");
        let mut copy = format!("'{}' share copy '{copied}' --config '{config}'", self.muster.display());
        if !backend.credentials().is_empty() {
            secret(&credentials, &backend.credentials());
            copy.push_str(&format!(" --to-credentials '{}'", credentials.display()));
        }
        let objects = work.join("origin-share");
        super::data::warm(&objects)?;
        let copy = measure::run(&copy, place)?.wall_secs;
        let again = measure::run(&backend.copy(&objects, work, &at("objects")), place)?.wall_secs;
        for folder in [at("share"), at("copied"), at("client"), at("objects")] {
            let folder = work.join(folder);
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok([agent, client, copy, again])
    }

    /// A new fleet of one service; its folder.
    fn fleet(
        &self,
        work: &Path,
        name: &str,
        url: &str,
        credentials: &str,
        source: &Path,
    ) -> io::Result<String> {
        let dir = work.join(name).display().to_string();
        let (kit, service) = (format!("{dir}-kit"), format!("bench=files:{}", source.display()));
        let file = work.join("share.credentials");
        let mut args =
            vec!["init", &dir, "--fleet", "bench", "--share", url, "--kit", &kit, "--service", &service];
        let shown = file.display().to_string();
        if !credentials.is_empty() {
            secret(&file, credentials);
            args.extend(["--share-credentials", &shown]);
        }
        self.muster(&args)?;
        Ok(dir)
    }

    /// Runs `muster` to its end; what it said, where that is JSON.
    fn muster(&self, args: &[&str]) -> io::Result<Value> {
        let done = Command::new(&self.muster).args(args).stdin(Stdio::null()).output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(io::Error::other(format!("muster {}: {}\n{said}", args.join(" "), done.status)));
        }
        Ok(serde_json::from_slice(&done.stdout).unwrap_or_default())
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

impl SharesRecord {
    /// As a Markdown table with a line about what was measured.
    #[must_use]
    pub fn table(&self) -> String {
        let rate = |secs: f64| self.bytes as f64 / 1e6 / secs;
        let mut text = format!(
            "{:.0} MB in files of 12 MiB that do not compress; {} of {}; {} processors; servers on loopback.\n\n\
             | share | agent MB/s | client | client MB/s | agent / client | copy MB/s | client MB/s | copy / client |\n\
             |---|---|---|---|---|---|---|---|\n",
            self.bytes as f64 / 1e6,
            if self.repetitions == 1 { "one repetition" } else { "medians" },
            self.repetitions,
            self.cores
        );
        for row in &self.rows {
            text.push_str(&format!(
                "| {} | {:.0} | {} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |\n",
                row.share,
                rate(row.agent_secs),
                row.client,
                rate(row.client_secs),
                row.client_secs / row.agent_secs,
                rate(row.copy_secs),
                rate(row.client_copy_secs),
                row.client_copy_secs / row.copy_secs
            ));
        }
        text
    }
}
