//! The files about users in a fleet's folder. Each is replaced in one step, so that a crash leaves the old one; and one
//! command at a time changes them, so that none loses what another added.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{BusUsers, accounts};
use crate::exit::Exit;
use crate::failure::Failure;

/// The list of users.
pub(crate) const USERS: &str = "nats-users.toml";
/// What the server reads of them.
pub(crate) const ACCOUNTS: &str = "nats-accounts.conf";
/// Longest list in bytes: a hundred thousand users.
const MAX_LEN: u64 = 16 << 20;
/// Longest wait for another command that changes the users; it takes milliseconds.
const WAIT: Duration = Duration::from_secs(10);

/// The users of a folder; none when the folder keeps none, because its server is set up elsewhere.
///
/// # Errors
/// Exit 2 when the file cannot be read or used.
pub(crate) fn load(dir: &Path) -> Result<Option<BusUsers>, Failure> {
    let path = dir.join(USERS);
    match read(&path) {
        Ok(text) => Ok(Some(BusUsers::parse(&path, &text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Failure::usage(format!("{} cannot be read", path.display())).because(error.to_string()))
        }
    }
}

/// The text of a plain file: nothing is waited for, and nothing endless is read.
fn read(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() || meta.len() > MAX_LEN {
        return Err(io::Error::other("it is no plain file of at most 16 MiB"));
    }
    fs::read_to_string(path)
}

/// Changes the users of a folder, and what the server reads of them. Whether anything is different now; false as well
/// when the folder keeps no users. Without a change, accounts that a crash left old are printed anew.
///
/// # Errors
/// Exit 2 when a file cannot be read, used or written; exit 7 when another command does not let go.
pub(crate) fn change(dir: &Path, change: impl FnOnce(&mut BusUsers)) -> Result<bool, Failure> {
    if !dir.join(USERS).exists() {
        return Ok(false);
    }
    let _lock = lock(dir)?;
    let Some(before) = load(dir)? else { return Ok(false) };
    let mut users = before.clone();
    change(&mut users);
    if users != before {
        replace(&dir.join(USERS), &users.to_toml_string())?;
    }
    let (file, text) = (dir.join(ACCOUNTS), accounts_file(&users));
    let stale = read(&file).map_or(true, |there| there != text);
    if stale {
        replace(&file, &text)?;
    }
    Ok(stale || users != before)
}

/// The text of the file that the server reads.
pub(super) fn accounts_file(users: &BusUsers) -> String {
    format!(
        "# Printed by muster from {USERS}: what is changed here is lost. Why accounts: see its decision 12.\n{}",
        accounts::print(users)
    )
}

/// Held until it is dropped. The folder itself is locked: the files in it are replaced.
fn lock(dir: &Path) -> Result<File, Failure> {
    let failed = |error: io::Error| {
        Failure::usage(format!("{} cannot be locked", dir.display())).because(error.to_string())
    };
    let folder = File::open(dir).map_err(failed)?;
    let began = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(fs::TryLockError::WouldBlock) if began.elapsed() < WAIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("another command is changing {}", dir.join(USERS).display()),
                )
                .next("wait until it has ended, then give the command again"));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Puts a text into the place of a file's, durably.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_added_extension("new");
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    written().map_err(|error: io::Error| {
        // It has not taken the place; if even that fails, the first error is the one that helps.
        drop(fs::remove_file(&new));
        Failure::usage(format!("{} cannot be written", path.display())).because(error.to_string())
    })
}
