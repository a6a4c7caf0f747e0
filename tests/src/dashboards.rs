//! Pictures of the dashboards: a fleet that has something to tell, before a real Prometheus, whose answers are drawn.
//!
//! One service's source fails for some rounds, one is slow, one grows; rounds have a cut, one coordinator dies and the other takes
//! the lead, the NATS server starts again. All of it is real but for the time: a minute is promised where it would be a day.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::fleet::{Fleet, text};
use crate::hook::{Answer, Hook};
use crate::picture::{Answers, Window, draw};
use crate::process::wait_for;
use crate::telemetry::{Board, Panel, Prom, Variables, Wired, boards};
use crate::tree::noise;

/// How long a rate looks back: four scrapes, and more than a round's longest silence.
const RATE: &str = "10s";
const RATE_SECS: f64 = 10.0;
/// Between two values of a line.
const STEP_SECS: f64 = 2.0;
/// The rounds in which the failing source fails.
const BROKEN: std::ops::Range<u32> = 4..11;
/// Before this one the leading coordinator dies.
const TAKEOVER: u32 = 13;
/// Before this one the NATS server starts again.
const RESTART: u32 = 15;

/// Runs `rounds` rounds and writes one picture for each dashboard into a folder; their files.
///
/// # Errors
/// A picture cannot be written.
///
/// # Panics
/// When the fleet or Prometheus does not do what it should.
pub fn pictures(into: &Path, rounds: u32, say: &mut dyn FnMut(&str)) -> io::Result<Vec<PathBuf>> {
    let mut scene = Scene::new();
    let (_server, prom) = scene.wired.prometheus(false);
    let began = now();
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        scene.round(round);
    }
    let ended = now();
    wait_for("every page was read since the last round", || {
        prom.now(&format!("min(timestamp(up)) > {ended}")).ok().filter(|series| !series.is_empty())
    });
    let window = Window { from: began, to: now(), step: STEP_SECS };
    fs::create_dir_all(into)?;
    let mut files = Vec::new();
    for (name, board) in boards() {
        let file = into.join(format!("{name}.svg"));
        fs::write(&file, draw(&board, &answers(&board, &prom, window), window))?;
        files.push(file);
    }
    Ok(files)
}

/// What Prometheus answers to all that a dashboard asks.
///
/// # Panics
/// When it refuses an expression.
#[must_use]
pub fn answers(board: &Board, prom: &Prom, window: Window) -> Vec<Answers> {
    board.panels.iter().map(|panel| answers_of(panel, prom, window)).collect()
}

fn answers_of(panel: &Panel, prom: &Prom, window: Window) -> Answers {
    let variables = Variables { rate_interval: RATE.to_owned() };
    // Bars count what came since the bar before.
    let step = if panel.bars() { RATE_SECS } else { window.step };
    let ask = |expression: String| {
        let answer = prom.range(&expression, window.from, window.to, step);
        answer.unwrap_or_else(|why| panic!("{}: {expression}: {why}", panel.title))
    };
    panel.targets.iter().map(|query| ask(query.ready(&variables))).collect()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The fleet and what happens to it.
struct Scene {
    wired: Wired,
    /// While this file is there, the source of `reports` fails.
    broken: PathBuf,
    web: PathBuf,
    archive: PathBuf,
    _data: tempfile::TempDir,
    people: Hook,
}

impl Scene {
    fn new() -> Self {
        let data = tempfile::TempDir::with_prefix("muster-dashboards-").expect("a folder");
        let at = |name: &str| data.path().join(name);
        for (name, files, kib) in [("config", 40, 4), ("web", 60, 256), ("archive", 12, 1_024)] {
            fs::create_dir(at(name)).expect("a folder");
            for file in 0..files {
                let bytes = noise(file, kib * 1_024);
                fs::write(at(name).join(format!("file-{file}")), bytes).expect("written");
            }
        }
        let broken = at("broken");
        let script = format!("test ! -e '{}' && seq 1 200000", text(&broken));
        let reports = serde_json::to_string(&["sh", "-c", &script]).expect("JSON");
        let folder = |name: &str| format!("{name}=files:{}", text(&at(name)));
        let services =
            [folder("archive"), folder("config"), format!("reports=command:{reports}"), folder("web")];
        let mut fleet = Fleet::init_with_coordinators(2, &services);
        fleet.set("MUSTER_CUT_ENABLED", "true");
        let people = Hook::start();
        for name in ["coordinator", "coordinator-2"] {
            let file = fleet.dir().join(format!("{name}.toml"));
            let channel = format!(
                "\n[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"{}\"\nmin_severity = \"warning\"\nretry_first = \"100ms\"\n",
                people.url("/ops")
            );
            let before = fs::read_to_string(&file).expect("a configuration");
            fs::write(&file, before + &channel).expect("written");
        }
        slow_down(&fleet.dir().join("agents/archive.toml"));
        let mut wired = Wired::new(fleet, None);
        wired.fleet.up();
        let _ = wired.fleet.run(&["start", "--wait"]).with_code(0);
        wired.fleet.start_standby("coordinator-2");
        let settings = ["config", "set", "schedule", "every 1h", "scrub.within", "1m", "interval", "1m"];
        let _ = wired.fleet.run(&settings).with_code(0);
        let _ = wired.fleet.run(&["enable"]);
        Self { wired, broken, web: at("web"), archive: at("archive"), _data: data, people }
    }

    fn round(&mut self, number: u32) {
        if number == BROKEN.start {
            fs::write(&self.broken, "").expect("written");
            self.people.answers([(); 3].map(|()| Answer::Status(503)), Answer::Status(200));
        }
        if number == RESTART {
            let server = self.wired.fleet.nats.as_mut().expect("a server");
            server.kill();
            server.restart();
        }
        if number == BROKEN.end {
            fs::remove_file(&self.broken).expect("removed");
        }
        if number == TAKEOVER {
            self.wired.fleet.kill_coordinator();
            let fleet = &self.wired.fleet;
            wait_for("the other one leads", || {
                let said = fleet.run(&["alerts", "--json"]);
                let said: serde_json::Value = serde_json::from_str(&said.out).ok()?;
                // Only a leader answers that.
                (said["bus"] == true).then_some(())
            });
        }
        for file in 0..4 {
            let bytes = noise(u64::from(number) * 100 + file, 1 << 20);
            fs::write(self.archive.join(format!("file-{file}")), bytes).expect("written");
        }
        for file in 0..8 {
            let name = format!("new-{number}-{file}");
            let bytes = noise(u64::from(number) * 1_000 + file, 300 * 1_024);
            fs::write(self.web.join(name), bytes).expect("written");
        }
        let _ = self.wired.fleet.run(&["start", "--wait", "--timeout", "50s"]);
        std::thread::sleep(Duration::from_secs(4));
    }
}

/// Two megabytes a second, at most.
fn slow_down(file: &Path) {
    let before = fs::read_to_string(file).expect("a configuration");
    let after = before.replace("bandwidth = \"0B\"", "bandwidth = \"2MiB\"");
    assert_ne!(before, after, "init writes every key");
    fs::write(file, after).expect("written");
}
