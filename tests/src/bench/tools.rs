//! The tools that are measured, as shell commands. A tool that is not installed is left out.
//!
//! Placeholders: `{src}` the data's folder, `{name}` its last part (commands run in the folder above), `{repo}`, `{dst}`
//! the target of the restore, `{home}` a fresh private folder for keys and caches, `{n}` the backup (1, 2, 3), `{program}`,
//! `{collector}` the address of a collector of telemetry.

use std::path::{Path, PathBuf};

/// One tool.
#[derive(Debug, Clone)]
pub struct Tool {
    /// As the table has it.
    pub name: &'static str,
    program: PathBuf,
    version: &'static str,
    init: &'static str,
    backup: &'static str,
    restore: &'static str,
    /// Where the tree lies below `{dst}` after a restore.
    tree: &'static str,
    collector: String,
}

/// Where a tool works in one repetition.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) src: PathBuf,
    pub(crate) repo: PathBuf,
    pub(crate) dst: PathBuf,
    pub(crate) home: PathBuf,
}

struct Recipe {
    name: &'static str,
    programs: &'static [&'static str],
    version: &'static str,
    init: &'static str,
    backup: &'static str,
    restore: &'static str,
    tree: &'static str,
}

/// Passwords, homes and caches for all of them.
pub(crate) const ENVIRONMENT: [(&str, &str); 10] = [
    ("HOME", "{home}"),
    ("XDG_CACHE_HOME", "{home}/cache"),
    ("RESTIC_PASSWORD", "bench"),
    ("RESTIC_CACHE_DIR", "{home}/cache"),
    ("RUSTIC_PASSWORD", "bench"),
    ("RUSTIC_CACHE_DIR", "{home}/cache"),
    ("BORG_PASSPHRASE", "bench"),
    ("BORG_BASE_DIR", "{home}"),
    ("MUSTER_CONFIG", ""),
    ("LC_ALL", "C.UTF-8"),
];

const MUSTER_INIT: &str =
    "{program} init {home}/fleet --fleet bench --share {repo} --kit {home}/kit --service data=files:{src}";
const MUSTER_RESTORE: &str = "{program} recover --share {repo} --kit {home}/kit --into {dst}/out";

const MUSTER: [Recipe; 2] = [
    Recipe {
        name: "muster",
        programs: &[],
        version: "{program} --version",
        init: MUSTER_INIT,
        backup: "{program} once {home}/fleet",
        restore: MUSTER_RESTORE,
        tree: "out/data/files",
    },
    Recipe {
        name: "muster, no self-check",
        programs: &[],
        version: "{program} --version",
        init: MUSTER_INIT,
        backup: "MUSTER_ENGINE_SELF_CHECK=false {program} once {home}/fleet",
        restore: MUSTER_RESTORE,
        tree: "out/data/files",
    },
];

/// Everything that there is to tell, told.
const TELEMETRY: Recipe = Recipe {
    name: "muster, telemetry",
    programs: &[],
    version: "{program} --version",
    init: MUSTER_INIT,
    backup: "MUSTER_TELEMETRY_OTLP_ENDPOINT={collector} MUSTER_TELEMETRY_INTERVAL=1s {program} once {home}/fleet",
    restore: MUSTER_RESTORE,
    tree: "out/data/files",
};

const PEERS: [Recipe; 5] = [
    Recipe {
        name: "restic",
        programs: &["restic"],
        version: "{program} version",
        init: "{program} -q -r {repo} init",
        backup: "{program} -q -r {repo} backup {name}",
        restore: "{program} -q -r {repo} restore latest --target {dst}",
        tree: "{name}",
    },
    Recipe {
        name: "rustic",
        programs: &["rustic"],
        version: "{program} --version",
        init: "{program} --no-progress --log-level error -r {repo} init",
        backup: "{program} --no-progress --log-level error -r {repo} backup {name}",
        restore: "{program} --no-progress --log-level error -r {repo} restore latest {dst}",
        tree: "{name}",
    },
    Recipe {
        name: "borg, zstd-3",
        programs: &["borg"],
        version: "{program} --version",
        init: "{program} init -e repokey {repo}",
        backup: "{program} create -C zstd,3 {repo}::a{n} {name}",
        restore: "cd {dst} && {program} extract {repo}::a3",
        tree: "{name}",
    },
    Recipe {
        name: "bupstash",
        programs: &["bupstash"],
        version: "{program} --version",
        init: "{program} init -q -r {repo} && {program} new-key -o {home}/key && \
               {program} new-sub-key -k {home}/key --put --list -o {home}/put.key",
        backup: "{program} put --no-progress -r {repo} -k {home}/put.key --send-log {home}/sendlog {name} > {home}/id",
        restore: "{program} restore -q --no-progress --query-cache {home}/qc -r {repo} -k {home}/key --into {dst} \
                  id=$(cat {home}/id)",
        tree: ".",
    },
    Recipe {
        name: "tar, zstd -3 -T0, age",
        programs: &["age", "zstd", "tar", "age-keygen"],
        version: "echo age $({program} --version); zstd --version | grep -o 'v[0-9.]*'",
        init: "mkdir -p {repo} && age-keygen -o {home}/key",
        backup: "tar c {name} | zstd -q -3 -T0 | {program} -r $(grep -o 'age1.*' {home}/key) > {repo}/{n}.tar.zst.age",
        restore: "{program} -d -i {home}/key {repo}/3.tar.zst.age | zstd -q -dc | tar x -C {dst}",
        tree: "{name}",
    },
];

/// Muster, and the peers that `wanted` begins the names of (all when it is empty) and that are installed: on the path, or
/// in `bin` or `*/bin` below a prefix. Also the names of those that are not.
/// With a `collector`, Muster is also measured while it tells it everything.
#[must_use]
pub fn installed(
    muster: &Path,
    wanted: &[String],
    prefixes: &[PathBuf],
    collector: Option<&str>,
) -> (Vec<Tool>, Vec<&'static str>) {
    let mut tools: Vec<_> = MUSTER.into_iter().map(|recipe| tool(recipe, muster.to_owned())).collect();
    if let Some(collector) = collector {
        let mut telling = tool(TELEMETRY, muster.to_owned());
        telling.collector = collector.to_owned();
        tools.insert(1, telling);
    }
    let mut missing = Vec::new();
    let folders = folders(prefixes);
    for recipe in PEERS {
        if !wanted.is_empty() && !wanted.iter().any(|name| recipe.name.starts_with(name.as_str())) {
            continue;
        }
        let find =
            |program: &&str| folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file());
        match recipe.programs.iter().map(find).collect::<Option<Vec<_>>>() {
            Some(mut found) => tools.push(tool(recipe, found.swap_remove(0))),
            None => missing.push(recipe.name),
        }
    }
    (tools, missing)
}

/// Folders of programs: those below the prefixes first.
fn folders(prefixes: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for prefix in prefixes {
        folders.push(prefix.join("bin"));
        let below = std::fs::read_dir(prefix).into_iter().flatten().flatten();
        folders.extend(below.map(|entry| entry.path().join("bin")));
    }
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders
}

fn tool(recipe: Recipe, program: PathBuf) -> Tool {
    let Recipe { name, programs: _, version, init, backup, restore, tree } = recipe;
    Tool { name, program, version, init, backup, restore, tree, collector: String::new() }
}

impl Tool {
    /// Whether it is Muster, in any of its rows.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.name.starts_with("muster")
    }

    pub(crate) fn version(&self, place: &Place) -> String {
        self.fill(self.version, place, 0)
    }

    pub(crate) fn init(&self, place: &Place) -> String {
        self.fill(self.init, place, 0)
    }

    pub(crate) fn backup(&self, place: &Place, number: u32) -> String {
        self.fill(self.backup, place, number)
    }

    pub(crate) fn restore(&self, place: &Place) -> String {
        self.fill(self.restore, place, 3)
    }

    pub(crate) fn tree(&self, place: &Place) -> PathBuf {
        place.dst.join(self.fill(self.tree, place, 3))
    }

    fn fill(&self, command: &str, place: &Place, number: u32) -> String {
        place
            .fill(command)
            .replace("{n}", &number.to_string())
            .replace("{collector}", &self.collector)
            .replace("{program}", &quoted(&self.program))
    }
}

impl Place {
    pub(crate) fn fill(&self, text: &str) -> String {
        let name = self.src.file_name().unwrap_or_default();
        text.replace("{src}", &quoted(&self.src))
            .replace("{name}", &quoted(Path::new(name)))
            .replace("{repo}", &quoted(&self.repo))
            .replace("{dst}", &quoted(&self.dst))
            .replace("{home}", &quoted(&self.home))
    }
}

/// A path as one word of the shell, which also stands for itself where nothing reads it as one.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().into_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::{Place, installed};
    use std::path::Path;

    #[test]
    fn commands_have_no_placeholder_left_and_paths_are_one_word() {
        let place = Place {
            src: "/data/it's here".into(),
            repo: "/w/repo".into(),
            dst: "/w/dst".into(),
            home: "/w/home".into(),
        };
        let prefix = tempfile::TempDir::new().expect("a folder");
        std::fs::create_dir_all(prefix.path().join("x/bin")).expect("a folder");
        for program in ["restic", "rustic", "borg", "bupstash", "age", "age-keygen", "zstd", "tar"] {
            std::fs::write(prefix.path().join("x/bin").join(program), b"").expect("written");
        }
        let at = [prefix.path().to_owned()];
        let (tools, missing) = installed(Path::new("/b/muster"), &[], &at, Some("http://127.0.0.1:9"));
        assert!(tools.len() == 8 && missing.is_empty(), "{missing:?}");
        for tool in &tools {
            for command in
                [tool.init(&place), tool.backup(&place, 2), tool.restore(&place), tool.version(&place)]
            {
                let plain = command.replace("${", "");
                assert!(!plain.contains('{') && !plain.contains('}'), "{command}");
            }
        }
        assert!(
            tools[0].init(&place).ends_with(r"data=files:'/data/it'\''s here'"),
            "{}",
            tools[0].init(&place)
        );
        let (only, _) = installed(Path::new("/b/muster"), &["rust".to_owned()], &at, None);
        assert_eq!(
            only.iter().map(|tool| tool.name).collect::<Vec<_>>(),
            ["muster", "muster, no self-check", "rustic"]
        );
    }
}
