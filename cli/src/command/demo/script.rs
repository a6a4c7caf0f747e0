//! What happens on the stage, in seven steps. Each ends with a proof, and the first that does not hold ends the demo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use muster_bus::{Bus, NatsBus, NatsConfig, Streams};
use muster_protocol::subject::{Subject, Subjects};
use muster_protocol::units::{format_duration, format_size};
use serde_json::{Value, json};

use super::compare::{self, Comparison};
use super::halt::aside;
use super::operator::Operator;
use super::orders::{self, Orders};
use super::packages::{self, Packages};
use super::packs;
use super::round::Round;
use super::secrets;
use super::stage::Stage;
use super::stock;
use super::tell::{count, proof, step, word};
use crate::bus_users::{self, UserKind};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::{leader, scratch, screen};

/// The fleet's name.
const FLEET: &str = "demo";
/// What `configuration` captures, in place.
const CONFIGURATION: &str = "/etc";
/// What `packages` is a copy of.
const PACKAGES: &str = "/usr/share";
/// How many services there are.
const SERVICES: usize = 4;
/// Longest wait for coordinator and agents, and for the round that a message starts.
const WAIT: Duration = Duration::from_secs(60);
/// How often they are asked for.
const ASK: Duration = Duration::from_millis(100);

/// Plays it all.
pub(super) async fn play(stage: &mut Stage) -> Outcome {
    let began = Instant::now();
    let data = prepare(stage).await?;
    let mut play = Play {
        operator: Operator::new(stage.path("fleet/operator.toml"))?,
        stage,
        data,
        packs: BTreeMap::new(),
    };
    let bus = play.start().await?;
    play.first_round().await?;
    play.changes().await?;
    play.message(&bus).await?;
    // The server is about to be stopped; what is lost with the connection is nothing.
    drop(bus.close().await);
    play.stock_tools().await?;
    let since = play.damage_and_mend().await?;
    play.recover(since).await?;
    play.farewell(began.elapsed())?;
    Ok(Exit::Done)
}

/// The data that the demo makes itself.
#[derive(Debug, Clone)]
struct Data {
    packages: Packages,
    orders: Orders,
}

async fn prepare(stage: &Stage) -> Result<Data, Failure> {
    screen::line(format!(
        "A whole fleet on this machine, in {}; nothing outside it is changed.",
        stage.folder().display()
    ));
    word(
        "fleet: all that is backed up together · service: one part of it · source: what is captured of a service",
    );
    let (copy, database, halt) =
        (stage.path("data/packages"), stage.path("data/orders.db"), stage.halt.clone());
    let data = aside(move || {
        let packages = Packages::copy(Path::new(PACKAGES), &copy, packages::BOUNDS, &halt)?;
        Ok(Data { packages, orders: Orders::fill(&database)? })
    })
    .await?;
    word(&format!(
        "configuration: {CONFIGURATION} · packages: {} of {PACKAGES}, copied · orders: SQLite, {} · secrets: a command's \
         output, made up",
        count(data.packages.count(), "file", "files"),
        count(u64::from(orders::ROWS), "row", "rows"),
    ));
    Ok(data)
}

struct Play<'a> {
    operator: Operator,
    stage: &'a mut Stage,
    data: Data,
    packs: BTreeMap<PathBuf, u64>,
}

impl Play<'_> {
    /// Step 1. Returns a client of the demo's own, as anybody's.
    async fn start(&mut self) -> Result<NatsBus, Failure> {
        step(
            1,
            "muster init, muster up: nats-server, a coordinator and four agents as processes of their own",
        );
        let began = Instant::now();
        let url = self.init().await?;
        self.stage.start_fleet(&self.operator)?;
        self.wait_for_agents().await?;
        let streams = leader::streams(&subjects(), FLEET)?;
        let bus = NatsBus::connect(self.plain_client(&url, streams)?).await?;
        proof(&format!(
            "nats-server {} on {}, the coordinator leads, {SERVICES} of {SERVICES} agents are there, {}",
            bus.server().version,
            url.trim_start_matches("tls://"),
            format_duration(began.elapsed())
        ));
        word(
            "agent: the process beside a service, captures and seals · coordinator: runs rounds · neither reads a past backup",
        );
        Ok(bus)
    }

    /// Whoever starts rounds by a message has the nkey that `init` made for that, and hears answers where plain clients
    /// do.
    fn plain_client(&self, url: &str, streams: Streams) -> Result<NatsConfig, Failure> {
        let fleet = self.stage.path("fleet");
        let seed = fleet.join(bus_users::seed_path(UserKind::Trigger, bus_users::TRIGGER));
        let config = NatsConfig::new(url, "muster demo", streams);
        let config = config.with_files(&seed, &fleet.join(bus_users::CA), "operators")?;
        Ok(NatsConfig { inbox_prefix: "_INBOX".to_owned(), ..config })
    }

    async fn init(&self) -> Result<String, Failure> {
        let place = |name: &str| self.stage.path(name).display().to_string();
        let dump = json!([self.operator.program().display().to_string(), "demo", "--secrets"]);
        let mut arguments = vec!["init".to_owned(), place("fleet"), "--fleet".to_owned(), FLEET.to_owned()];
        for (option, folder) in [("--share", "share"), ("--kit", "kit"), ("--root", "root")] {
            arguments.extend([option.to_owned(), place(folder)]);
        }
        for service in [
            format!("configuration=files:{CONFIGURATION}"),
            format!("packages=files:{}", place("data/packages")),
            format!("orders=sqlite:{}", place("data/orders.db")),
            format!("secrets=command:{dump}"),
        ] {
            arguments.extend(["--service".to_owned(), service]);
        }
        arguments.push("--json".to_owned());
        let made = self.operator.json(&arguments).await?;
        made["nats"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| failed("muster init --json names no NATS server"))
    }

    async fn wait_for_agents(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            self.stage.check_fleet()?;
            let said = self.operator.run(&["status", "--json"]).await?;
            // While nobody leads yet, the command may fail.
            let status = said.json().unwrap_or_default();
            let leader = &status["leader"];
            if !leader["epoch"].is_null() && leader["online"].as_u64() == Some(SERVICES as u64) {
                return Ok(());
            }
            if began.elapsed() >= WAIT {
                return Err(failed(format!(
                    "coordinator and agents are not all there within {} s",
                    WAIT.as_secs()
                ))
                .because(format!("muster status: {status}")));
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// Step 2.
    async fn first_round(&mut self) -> Result<(), Failure> {
        step(2, "muster start --wait: round 1, everything");
        let (round, took) = self.round(1).await?;
        let packs = self.new_packs()?;
        proof(&format!(
            "{} of {SERVICES} services, {} in {} → {} in {}, {took}, verified",
            round.stored(),
            format_size(round.source_bytes()),
            count(round.entries(), "entry", "entries"),
            format_size(round.added_bytes()),
            count(packs, "pack", "packs"),
        ));
        if round.gaps() > 0 {
            let gaps = count(round.gaps(), "entry", "entries");
            proof(&format!(
                "{gaps} could not be read by this user, or changed while read: gaps, told and not fatal"
            ));
        }
        word(
            "round: one backup of them all · slice: one agent's part · pack: chunks, compressed and sealed · share: where they go",
        );
        Ok(())
    }

    /// Step 3.
    async fn changes(&mut self) -> Result<(), Failure> {
        let data = self.data.clone();
        let (files, rows) = aside(move || Ok((data.packages.change()?, data.orders.change()?))).await?;
        let (files, rows) = (count(files, "file", "files"), count(rows, "row", "rows"));
        step(3, &format!("1 % changed ({files}, {rows}) · muster start --wait: round 2"));
        let (round, took) = self.round(2).await?;
        let packs = self.new_packs()?;
        let added = format_size(round.added_bytes());
        proof(&format!("{added} added in {}, {took}, verified", count(packs, "pack", "packs")));
        word(
            "receipt: an agent's signed account of its slice · manifest: the coordinator's of the round · verified: read again, hashed",
        );
        Ok(())
    }

    /// Step 4.
    async fn message(&mut self, bus: &NatsBus) -> Result<(), Failure> {
        let orders = self.data.orders.clone();
        aside(move || orders.add_one()).await?;
        let subject = subjects().print(&Subject::TriggerAsync);
        let message = json!({"services": ["orders"]}).to_string();
        step(4, &format!("one more order · nats pub {subject} '{message}': round 3, by a plain message"));
        let began = Instant::now();
        bus.publish(&subject, Vec::new(), Bytes::from(message)).await?;
        self.wait_for_round(3).await?;
        let took = format_duration(began.elapsed());
        let round = Round::proven(self.operator.json(&["show", "3", "--json"]).await?, 3, 1)?;
        self.new_packs()?;
        proof(&format!(
            "{} of 1 service, {} added, {took}, verified",
            round.stored(),
            format_size(round.added_bytes())
        ));
        word(
            "log: the signed, hash-chained account of all rounds on the share; whatever NATS loses, the log has",
        );
        Ok(())
    }

    async fn wait_for_round(&mut self, number: u64) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            self.stage.check_fleet()?;
            let list = self.operator.json(&["rounds", "--json"]).await?;
            let round = list["rounds"]
                .as_array()
                .and_then(|rounds| rounds.iter().find(|round| round["number"] == number));
            match round.and_then(|round| round["state"].as_str()) {
                Some("verified") => return Ok(()),
                Some(state @ ("failed" | "cancelled" | "skipped")) => {
                    return Err(failed(format!("round {number} {state}")));
                }
                state if began.elapsed() >= WAIT => {
                    let state = state.unwrap_or("not opened");
                    return Err(failed(format!(
                        "round {number} is {state}, not verified, after {} s",
                        WAIT.as_secs()
                    )));
                }
                Some(_) | None => tokio::time::sleep(ASK).await,
            }
        }
    }

    /// Step 5.
    async fn stock_tools(&self) -> Result<(), Failure> {
        let pack = packs::largest(&self.packs, "secrets")
            .ok_or_else(|| failed("secrets has no pack on the share"))?;
        let (key, path) = (self.stage.path("kit/recovery.key"), self.stage.path("share").join(&pack));
        step(5, &format!("without Muster: age -d -i kit/recovery.key share/{} | zstd -d", short(&pack)));
        let missing = stock::missing();
        if missing.is_empty() {
            let plain = stock::read(&key, &path).await?;
            let line = secrets::first_line();
            if !plain.windows(line.len()).any(|window| window == line.as_bytes()) {
                return Err(failed(format!("{} does not hold what the command printed", pack.display())));
            }
            proof(&format!("{} in the plain, among them: {line}", format_size(plain.len() as u64)));
        } else {
            let missing = missing.join(" and ");
            proof(&format!(
                "left out: {missing} not installed here; on Debian and Ubuntu: apt-get install age zstd"
            ));
        }
        word(
            "kit: what the worst day needs: private recovery key, root public key, a page to print; kept apart from the fleet",
        );
        Ok(())
    }

    /// Step 6. Returns when the round began that mends.
    async fn damage_and_mend(&mut self) -> Result<SystemTime, Failure> {
        let pack =
            packs::largest(&self.packs, "orders").ok_or_else(|| failed("orders has no pack on the share"))?;
        let path = self.stage.path("share").join(&pack);
        packs::flip(&path)?;
        step(6, &format!("one bit flipped in share/{}", short(&pack)));
        let verify =
            ["verify", "latest", "--share", &self.place("share"), "--kit", &self.place("kit"), "--json"];
        let said = self.operator.run(&verify).await?;
        said.expect(Exit::Damaged as i32)?;
        let what = named(&said.json()?, &pack)?;
        proof(&format!("muster verify names it: {what} (exit 4)"));
        packs::quarantine(&path, &self.stage.path("quarantine"))?;
        let since = SystemTime::now();
        let (round, took) = self.round(4).await?;
        self.new_packs()?;
        self.operator.run(&verify).await?.expect(Exit::Done as i32)?;
        proof(&format!(
            "moved to quarantine · muster start --wait: round 4 uploads its chunks again from the live source, {}, {took} · \
             muster verify: whole (exit 0)",
            format_size(round.added_bytes())
        ));
        word(
            "rounds 1 to 3 still name the pack in quarantine: nothing repairs an old round, the next one is whole again",
        );
        Ok(since)
    }

    /// Step 7.
    async fn recover(&mut self, since: SystemTime) -> Result<(), Failure> {
        self.stage.stop_fleet().await?;
        let what = if self.stage.keeps() { "set aside" } else { "deleted" };
        step(
            7,
            &format!(
                "everything stopped and {what} but share and kit · muster recover --share share --kit kit --into recovered"
            ),
        );
        self.lose_fleet().await?;
        let (share, kit, into) = (self.place("share"), self.place("kit"), self.stage.path("recovered"));
        let began = Instant::now();
        let arguments = ["recover", "--share", &share, "--kit", &kit, "--into", &into.display().to_string()];
        self.operator.run(&arguments).await?.expect(Exit::Done as i32)?;
        let took = format_duration(began.elapsed());
        let (data, halt, copies) =
            (self.data.clone(), self.stage.halt.clone(), self.stage.path("data/packages"));
        let (found, rows) = aside(move || {
            let mut found =
                compare::trees(Path::new(CONFIGURATION), &into.join("configuration/files"), since, &halt)?;
            found.add(compare::trees(&copies, &into.join("packages/files"), since, &halt)?);
            secrets::compare(&into.join("secrets/command/output")).map_err(different)?;
            let rows = data.orders.compare(&into.join("orders/sqlite/orders.db")).map_err(different)?;
            Ok((found, rows))
        })
        .await?;
        identical(&found)?;
        proof(&format!(
            "{}, {}, {}, {}, the command's output: recovered in {took} and compared with their sources: identical",
            count(found.files, "file", "files"),
            format_size(found.bytes),
            count(found.folders + found.others, "folder and link", "folders and links"),
            count(rows, "row", "rows"),
        ));
        if found.gaps + found.changed > 0 {
            let gaps = count(found.gaps, "entry", "entries");
            let changed = count(found.changed, "entry", "entries");
            proof(&format!(
                "not compared: {gaps} closed to this user, {changed} changed in the source since round 4"
            ));
        }
        word(
            "recover: into a folder, from share and kit alone · every byte was proven against the root key in the kit",
        );
        Ok(())
    }

    /// The worst day: only share and kit are left. What is kept for later goes out of reach.
    async fn lose_fleet(&self) -> Result<(), Failure> {
        for name in ["fleet", "root", "quarantine"] {
            let folder = self.stage.path(name);
            if self.stage.keeps() {
                rename(&folder, &self.aside_place(name))?;
            } else {
                aside(move || scratch::remove(&folder)).await?;
            }
        }
        Ok(())
    }

    fn farewell(&self, took: Duration) -> Result<(), Failure> {
        let took = format_duration(took);
        if !self.stage.keeps() {
            screen::line(format!(
                "Every proof held, {took} in all; the folder is removed. muster demo --keep keeps it."
            ));
            return Ok(());
        }
        for name in ["fleet", "root", "quarantine"] {
            rename(&self.aside_place(name), &self.stage.path(name))?;
        }
        let place = |name: &str| self.place(name);
        screen::line(format!("Every proof held, {took} in all. Everything is kept; go on with:"));
        word(&format!("muster here is {}", self.operator.program().display()));
        for command in [
            format!("muster up {}", place("fleet")),
            format!("muster start --wait --config {}", place("fleet/operator.toml")),
            format!("muster status --config {}", place("fleet/operator.toml")),
            format!("muster rounds --share {}", place("share")),
            format!("muster verify latest --share {} --kit {}", place("share"), place("kit")),
            format!(
                "muster recover --share {} --kit {} --into {}",
                place("share"),
                place("kit"),
                place("recovered-2")
            ),
            format!("rm -rf {}", self.stage.folder().display()),
        ] {
            screen::line(format!("   → {command}"));
        }
        Ok(())
    }

    /// A round of everything, by command.
    async fn round(&mut self, number: u64) -> Result<(Round, String), Failure> {
        self.stage.check_fleet()?;
        let began = Instant::now();
        let json = self.operator.json(&["start", "--wait", "--timeout", "100s", "--json"]).await?;
        let took = format_duration(began.elapsed());
        Ok((Round::proven(json, number, SERVICES)?, took))
    }

    /// How many packs came to the share since this was asked last.
    fn new_packs(&mut self) -> Result<u64, Failure> {
        let packs = packs::list(&self.stage.path("share"))?;
        let new = packs.keys().filter(|pack| !self.packs.contains_key(*pack)).count();
        self.packs = packs;
        Ok(new as u64)
    }

    fn place(&self, name: &str) -> String {
        self.stage.path(name).display().to_string()
    }

    fn aside_place(&self, name: &str) -> PathBuf {
        self.stage.path(&format!("set-aside-{name}"))
    }
}

fn subjects() -> Subjects {
    Subjects::new(&FLEET.parse().expect("a fixed name is a name"))
}

/// What `verify` says about this pack, which must be all that it found.
fn named(report: &Value, pack: &Path) -> Result<String, Failure> {
    let damaged = report["damaged"].as_array().map(Vec::as_slice).unwrap_or_default();
    match damaged {
        [one] if one["object"].as_str() == pack.to_str() => {
            Ok(one["what"].as_str().unwrap_or("damaged").to_owned())
        }
        other => Err(failed(format!("muster verify does not name {} alone", pack.display()))
            .because(Value::from(other.to_vec()).to_string())),
    }
}

fn identical(found: &Comparison) -> Result<(), Failure> {
    if found.different == 0 && found.files > 0 {
        return Ok(());
    }
    let differences = count(found.different, "entry differs", "entries differ");
    let mut failure =
        failed(format!("recovered and compared {}: {differences}", count(found.files, "file", "files")));
    for difference in &found.differences {
        failure = failure.because(difference.clone());
    }
    Err(failure)
}

fn different(what: String) -> Failure {
    failed("what was recovered is not the same").because(what)
}

fn failed(what: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, what)
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::rename(from, to)
        .map_err(|error| failed(format!("{} cannot be moved", from.display())).because(error.to_string()))
}

/// A pack's path with the middle of its name left out.
fn short(pack: &Path) -> String {
    let name = pack.file_stem().unwrap_or_default().to_string_lossy();
    let folder = pack.parent().unwrap_or(Path::new(""));
    format!("{}/{}….age", folder.display(), name.chars().take(8).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{identical, named, short};
    use crate::command::demo::compare::Comparison;
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn only_the_damaged_pack_alone_counts_as_named() {
        let pack = Path::new("agents/orders/packs/5f/5f03.age");
        let one = |object: &str| json!({"object": object, "service": "orders", "what": "hash differs"});
        let report = |damaged: Vec<serde_json::Value>| json!({"damaged": damaged});
        let path = "agents/orders/packs/5f/5f03.age";
        assert_eq!(named(&report(vec![one(path)]), pack).expect("named"), "hash differs");
        assert!(named(&report(vec![]), pack).is_err());
        assert!(named(&report(vec![one("agents/orders/packs/aa/aa.age")]), pack).is_err());
        assert!(named(&report(vec![one(path), one(path)]), pack).is_err());
    }

    #[test]
    fn a_comparison_of_nothing_proves_nothing() {
        assert!(identical(&Comparison::default()).is_err());
        let found = Comparison { files: 3, ..Comparison::default() };
        assert!(identical(&found).is_ok());
        let found =
            Comparison { files: 3, different: 1, differences: vec!["x: is gone".to_owned()], ..found };
        assert!(identical(&found).expect_err("different").to_string().contains("x: is gone"));
    }

    #[test]
    fn names_of_packs_are_cut() {
        assert_eq!(short(Path::new("agents/a/packs/8c/8c41aabbccdd.age")), "agents/a/packs/8c/8c41aabb….age");
    }
}
