//! The `[[source]]` tables of an agent's configuration: as written ([`SourceTable`]) and as checked
//! ([`SourceConfig`]). Checking touches no file; whether what a source names exists is its preflight's matter.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::ids::SourceName;
use muster_protocol::units::HumanDuration;
use serde::{Deserialize, Serialize};

use super::Source;
use super::command::CommandSource;
use super::files::FilesSource;
use super::globs::{Globs, PatternError};
use super::sqlite::SqliteSource;

pub use super::globs::PatternError as SourcePatternError;
pub use super::spec::parse_spec;

/// A `[[source]]` table as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SourceTable {
    /// A folder or a file.
    Files(FilesTable),
    /// An SQLite database.
    Sqlite(SqliteTable),
    /// What a command writes to standard output.
    Command(CommandTable),
}

/// `kind = "files"`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesTable {
    /// Name, if not the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SourceName>,
    /// The folder or file.
    pub path: PathBuf,
    /// Patterns of what to keep; everything when empty.
    #[serde(default)]
    pub include: Vec<String>,
    /// Patterns of what to leave out, stronger than `include`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether folders of other file systems are kept empty rather than entered.
    #[serde(default = "yes")]
    pub one_file_system: bool,
    /// Whether of a folder with a valid `CACHEDIR.TAG` only that file is kept.
    #[serde(default)]
    pub skip_caches: bool,
}

/// `kind = "sqlite"`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteTable {
    /// Name, if not the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SourceName>,
    /// The database's file.
    pub path: PathBuf,
    /// The dump's file name; the database's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How long the database may stay locked.
    #[serde(default = "busy_timeout")]
    pub busy_timeout: HumanDuration,
}

/// `kind = "command"`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandTable {
    /// Name, if not the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SourceName>,
    /// Program and arguments; no shell. A program without a slash is looked up in `PATH`.
    pub argv: Vec<String>,
    /// The dump's file name.
    #[serde(default = "output")]
    pub file: String,
    /// How long it may run, the time in which the engine takes its output included.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// Bytes that it must write at least.
    #[serde(default = "one")]
    pub min_bytes: u64,
    /// Environment variables passed on besides `PATH`; `LANG` is `C.UTF-8` unless named here.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working folder; the root folder when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Program and arguments that put a dump back: it comes on standard input. Empty: only into a folder.
    #[serde(default)]
    pub restore: Vec<String>,
}

fn yes() -> bool {
    true
}
fn busy_timeout() -> HumanDuration {
    HumanDuration(Duration::from_secs(30))
}
fn output() -> String {
    "output".to_owned()
}
fn timeout() -> HumanDuration {
    HumanDuration(Duration::from_secs(3600))
}
fn one() -> u64 {
    1
}

impl FilesTable {
    /// Everything at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            name: None,
            path: path.into(),
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: true,
            skip_caches: false,
        }
    }
}

impl SqliteTable {
    /// The database at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { name: None, path: path.into(), file: None, busy_timeout: busy_timeout() }
    }
}

impl CommandTable {
    /// The output of `argv`.
    #[must_use]
    pub fn new(argv: Vec<String>) -> Self {
        Self {
            name: None,
            argv,
            file: output(),
            timeout: timeout(),
            min_bytes: one(),
            env: Vec::new(),
            dir: None,
            restore: Vec::new(),
        }
    }
}

impl SourceTable {
    /// The kind, as configuration writes it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::Sqlite(_) => "sqlite",
            Self::Command(_) => "command",
        }
    }

    /// The name that it was given.
    #[must_use]
    pub fn name(&self) -> Option<&SourceName> {
        match self {
            Self::Files(table) => table.name.as_ref(),
            Self::Sqlite(table) => table.name.as_ref(),
            Self::Command(table) => table.name.as_ref(),
        }
    }

    /// The tables of one service with every key that has a value written, also where it is the default.
    ///
    /// # Errors
    /// When two sources would have one name.
    pub fn spelled_out(mut tables: Vec<Self>) -> Result<Vec<Self>, SourceConfigError> {
        let names = names(&tables)?;
        for (table, name) in tables.iter_mut().zip(names) {
            match table {
                Self::Files(table) => table.name = Some(name),
                Self::Sqlite(table) => {
                    table.name = Some(name);
                    let own = table.path.file_name().and_then(|file| file.to_str()).map(str::to_owned);
                    table.file = table.file.take().or(own);
                }
                Self::Command(table) => {
                    table.name = Some(name);
                    table.dir.get_or_insert_with(|| PathBuf::from("/"));
                }
            }
        }
        Ok(tables)
    }

    /// Paths made absolute; what the source reads, for people.
    fn absolute(mut self, base: &Path) -> Self {
        match &mut self {
            Self::Files(table) => table.path = base.join(&table.path),
            Self::Sqlite(table) => table.path = base.join(&table.path),
            Self::Command(table) => {
                for argv in [&mut table.argv, &mut table.restore] {
                    if let Some(program) = argv.first_mut().filter(|program| program.contains('/')) {
                        // A base that is not UTF-8 leaves the program relative, which the check refuses.
                        *program = base.join(&*program).to_str().unwrap_or(program).to_owned();
                    }
                }
                if let Some(dir) = &mut table.dir {
                    *dir = base.join(&*dir);
                }
            }
        }
        self
    }

    fn subject(&self) -> String {
        match self {
            Self::Files(table) => table.path.display().to_string(),
            Self::Sqlite(table) => table.path.display().to_string(),
            Self::Command(table) => format!("{:?}", table.argv),
        }
    }

    fn reads_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Files(one), Self::Files(two)) => one.path == two.path,
            (Self::Sqlite(one), Self::Sqlite(two)) => one.path == two.path,
            (Self::Command(one), Self::Command(two)) => one.argv == two.argv,
            (Self::Files(_) | Self::Sqlite(_) | Self::Command(_), _) => false,
        }
    }
}

/// Why the `[[source]]` tables of a service cannot be used. `position` counts the tables from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceConfigError {
    /// The folder against which paths are resolved is not absolute.
    #[error("sources cannot be resolved against {}, which is not an absolute path", base.display())]
    Base {
        /// The folder.
        base: PathBuf,
    },
    /// Two sources read the same.
    #[error("source {position} reads the same as source {first}: {kind} {subject}; remove one of them")]
    Same {
        /// The later one.
        position: usize,
        /// The earlier one.
        first: usize,
        /// Their kind.
        kind: &'static str,
        /// Path or argv.
        subject: String,
    },
    /// Two sources have one name.
    #[error("source {position} has the name {name} of source {first}; give it another name")]
    Name {
        /// The later one.
        position: usize,
        /// The earlier one.
        first: usize,
        /// The name.
        name: SourceName,
    },
    /// A key's value cannot be used.
    #[error("source {position} ({kind}): {key} {why}")]
    Value {
        /// Which source.
        position: usize,
        /// Its kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A pattern is none.
    #[error("source {position} (files): {key}")]
    Pattern {
        /// Which source.
        position: usize,
        /// `include` or `exclude`.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        error: PatternError,
    },
}

/// A checked source: named, absolute, its patterns compiled.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    name: SourceName,
    checked: Checked,
}

#[derive(Debug, Clone)]
enum Checked {
    Files(FilesSource),
    Sqlite(SqliteSource),
    Command(CommandSource),
}

/// What puts a source back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Restoring<'a> {
    /// The folder or file at this path.
    Files(&'a Path),
    /// The database.
    Sqlite(&'a SqliteSource),
    /// The counterpart of the command, if there is one.
    Command(&'a CommandSource),
}

impl Restoring<'_> {
    /// The kind, as configuration writes it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::Sqlite(_) => "sqlite",
            Self::Command(_) => "command",
        }
    }
}

impl SourceConfig {
    /// Checks the tables of one service. Relative paths start at `base`. Names default to the kind, numbered from the
    /// second on.
    ///
    /// # Errors
    /// With the first table and key that cannot be used.
    pub fn resolve(tables: &[SourceTable], base: &Path) -> Result<Vec<Self>, SourceConfigError> {
        if !base.is_absolute() {
            return Err(SourceConfigError::Base { base: base.to_owned() });
        }
        let tables: Vec<SourceTable> = tables.iter().map(|table| table.clone().absolute(base)).collect();
        for (index, table) in tables.iter().enumerate() {
            if let Some(first) = tables[..index].iter().position(|earlier| earlier.reads_the_same(table)) {
                return Err(SourceConfigError::Same {
                    position: index + 1,
                    first: first + 1,
                    kind: table.kind(),
                    subject: table.subject(),
                });
            }
        }
        let names = names(&tables)?;
        let mut configs = Vec::with_capacity(tables.len());
        for (index, (table, name)) in tables.iter().zip(names).enumerate() {
            configs.push(Self { name: name.clone(), checked: check(index + 1, name, table)? });
        }
        Ok(configs)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// How it is put back.
    pub(crate) fn restoring(&self) -> Restoring<'_> {
        match &self.checked {
            Checked::Files(source) => Restoring::Files(source.path()),
            Checked::Sqlite(source) => Restoring::Sqlite(source),
            Checked::Command(source) => Restoring::Command(source),
        }
    }

    /// The source, ready to capture.
    #[must_use]
    pub fn build(self) -> Box<dyn Source> {
        match self.checked {
            Checked::Files(source) => Box::new(source),
            Checked::Sqlite(source) => Box::new(source),
            Checked::Command(source) => Box::new(source),
        }
    }
}

fn names(tables: &[SourceTable]) -> Result<Vec<SourceName>, SourceConfigError> {
    let mut names: Vec<SourceName> = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        let number = tables[..index].iter().filter(|earlier| earlier.kind() == table.kind()).count() + 1;
        let default =
            if number == 1 { table.kind().to_owned() } else { format!("{}-{number}", table.kind()) };
        let name = table
            .name()
            .cloned()
            .unwrap_or_else(|| default.parse().expect("a kind and a number is a name within 32 characters"));
        if let Some(first) = names.iter().position(|earlier| *earlier == name) {
            return Err(SourceConfigError::Name { position: index + 1, first: first + 1, name });
        }
        names.push(name);
    }
    Ok(names)
}

fn check(position: usize, name: SourceName, table: &SourceTable) -> Result<Checked, SourceConfigError> {
    let value =
        |key, why: &str| SourceConfigError::Value { position, kind: table.kind(), key, why: why.to_owned() };
    Ok(match table {
        SourceTable::Files(table) => {
            plain_path(&table.path).map_err(|why| value("path", why))?;
            let globs = |key, patterns: &[String]| {
                Globs::new(patterns).map_err(|error| SourceConfigError::Pattern { position, key, error })
            };
            Checked::Files(FilesSource::new(
                name,
                table.path.clone(),
                globs("include", &table.include)?,
                globs("exclude", &table.exclude)?,
                table.one_file_system,
                table.skip_caches,
            ))
        }
        SourceTable::Sqlite(table) => {
            plain_path(&table.path).map_err(|why| value("path", why))?;
            let file = match &table.file {
                Some(file) => file.clone().into(),
                None => table.path.file_name().ok_or_else(|| value("path", "names no file"))?.to_owned(),
            };
            if let Some(file) = &table.file {
                plain_name(file).map_err(|why| value("file", why))?;
            }
            if table.busy_timeout.0.is_zero() {
                return Err(value("busy_timeout", "must be longer than nothing"));
            }
            Checked::Sqlite(SqliteSource::new(name, table.path.clone(), file, table.busy_timeout.0))
        }
        SourceTable::Command(table) => {
            if table.argv.first().is_none_or(String::is_empty) {
                return Err(value("argv", "names no program"));
            }
            if table.restore.first().is_some_and(String::is_empty) {
                return Err(value("restore", "names no program"));
            }
            for (key, argv) in [("argv", &table.argv), ("restore", &table.restore)] {
                if argv.first().is_some_and(|program| program.contains('/') && !program.starts_with('/')) {
                    return Err(value(key, "names a relative program below a path that is not UTF-8"));
                }
                if argv.iter().any(|word| word.contains('\0')) {
                    return Err(value(key, "contains a NUL character"));
                }
            }
            plain_name(&table.file).map_err(|why| value("file", why))?;
            if table.timeout.0.is_zero() {
                return Err(value("timeout", "must be longer than nothing"));
            }
            if table.env.iter().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
                return Err(value("env", "must list names of variables, without values"));
            }
            if let Some(dir) = &table.dir {
                plain_path(dir).map_err(|why| value("dir", why))?;
            }
            Checked::Command(CommandSource::new(name, table.clone()))
        }
    })
}

fn plain_path(path: &Path) -> Result<(), &'static str> {
    use std::os::unix::ffi::OsStrExt;
    if path.as_os_str().as_bytes().contains(&0) {
        return Err("contains a NUL character");
    }
    if !path.is_absolute() {
        return Err("is not absolute");
    }
    Ok(())
}

fn plain_name(name: &str) -> Result<(), &'static str> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) || name.len() > 255 {
        return Err("must be a file name: not empty, no slash, at most 255 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
