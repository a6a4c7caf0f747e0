//! Folders that hold recovered data for a while, for their owner alone, and are removed again.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exit::Exit;
use crate::failure::Failure;

/// A folder is removed in so many tries: a thread told to stop may still write one file.
const REMOVALS: u32 = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Free bytes where a folder lies.
///
/// # Errors
/// When nobody can tell.
pub(crate) fn free(folder: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// A new folder that only its owner may enter: it will hold copies of what only root may read.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make(below: &Path, prefix: &str) -> io::Result<PathBuf> {
    let private = fs::Permissions::from_mode(0o700);
    // Removed by whoever asked for it, because what is recovered may forbid it to a plain removal.
    Ok(tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(below)?.keep())
}

/// Removes a folder while something that was told to stop may still be writing into it.
///
/// # Errors
/// When it is still there in the end.
pub(crate) async fn clear(folder: &Path) -> Result<(), Failure> {
    for _ in 1..REMOVALS {
        if remove(folder).is_ok() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    remove(folder)
}

/// Removes a folder with all that is in it, also folders that forbid it to their owner. Absent is as good.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn remove(folder: &Path) -> Result<(), Failure> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if gone(fs::remove_dir_all(folder)).is_ok() {
        return Ok(());
    }
    unlock(folder);
    gone(fs::remove_dir_all(folder)).map_err(|error| {
        Failure::new(Exit::Failed, format!("{} cannot be removed", folder.display()))
            .because(error.to_string())
            .next(format!("rm -rf {}", folder.display()))
    })
}

/// Lets the owner into every folder; what cannot be changed shows when it is removed.
fn unlock(folder: &Path) {
    drop(fs::set_permissions(folder, fs::Permissions::from_mode(0o700)));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{make, remove};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn folders_that_forbid_it_are_removed_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = make(folder.path(), "a-").expect("made");
        assert_eq!(fs::metadata(&own).expect("there").permissions().mode() & 0o777, 0o700);
        let locked = own.join("b");
        fs::create_dir_all(&locked).expect("folders");
        fs::write(locked.join("file"), "x").expect("a file");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("a mode");
        remove(&own).expect("removed");
        assert!(!own.exists());
        remove(&own).expect("absent is as good");
    }
}
