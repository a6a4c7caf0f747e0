//! Where a drill recovers to: a new folder of its own, for its owner alone, where temporary files go or in one that was named. So it
//! deletes nothing that it did not make, and several drills at once do not meet.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::{scratch, screen};

/// How the folders begin.
const PREFIX: &str = "muster-drill-";

/// The folder.
pub(super) struct ScratchFolder {
    path: PathBuf,
    /// The one that was named was absent, and is removed again.
    made: Option<PathBuf>,
    keep: bool,
}

impl ScratchFolder {
    /// A new one in the folder that was named, which is made where it is absent, or where temporary files go.
    ///
    /// # Errors
    /// Exit 2 when it cannot be made.
    pub(super) fn at(named: Option<PathBuf>, keep: bool) -> Result<Self, Failure> {
        let unusable = |place: &Path, error: &io::Error| {
            Failure::usage(format!("{} cannot hold the folder of the drill", place.display()))
                .because(error.to_string())
                .next("name a folder that may be written to, or an absent one in such a folder: --into DIR")
        };
        let below = named.unwrap_or_else(env::temp_dir);
        let made = match DirBuilder::new().mode(0o700).create(&below) {
            Ok(()) => Some(below.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(unusable(&below, &error)),
        };
        tell_of_leftovers(&below);
        let path = scratch::make(&below, PREFIX).map_err(|error| unusable(&below, &error))?;
        Ok(Self { path, made, keep })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was recovered, unless it is to be kept.
    ///
    /// # Errors
    /// When something is left.
    pub(super) async fn clear(self) -> Result<(), Failure> {
        if self.keep {
            screen::aside(format!("what was recovered lies in {}", self.path.display()));
            return Ok(());
        }
        scratch::clear(&self.path).await?;
        // Somebody else may use it by now.
        drop(self.made.map(fs::remove_dir));
        Ok(())
    }
}

/// A drill that was killed leaves the fleet's data in clear, and nobody else would ever say so.
fn tell_of_leftovers(below: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for item in fs::read_dir(below).into_iter().flatten().flatten() {
        let is_drill = item.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        if is_drill && item.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own) {
            screen::aside(format!(
                "warning: {} holds what another drill recovered. If none is running, it was killed: rm -rf {0}",
                item.path().display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ScratchFolder;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[tokio::test]
    async fn only_what_a_drill_made_is_removed() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("full/of")).expect("folders");
        fs::write(at("file"), "x").expect("a file");
        symlink(at("full"), at("link")).expect("a link");
        symlink(at("nowhere"), at("dangling")).expect("a link");
        for name in ["file", "dangling", "no/such"] {
            let refused = ScratchFolder::at(Some(at(name)), false).err().expect(name);
            assert_eq!(refused.exit(), crate::exit::Exit::Usage, "{name}");
        }
        assert!(at("file").is_file() && at("dangling").is_symlink() && !at("nowhere").exists());
        for (name, stays) in [("full", true), ("link", true), ("new", false)] {
            let first = ScratchFolder::at(Some(at(name)), false).expect(name);
            let second = ScratchFolder::at(Some(at(name)), false).expect(name);
            let own = first.path().to_owned();
            assert_ne!(own, second.path());
            assert_eq!(fs::metadata(&own).expect("there").permissions().mode() & 0o777, 0o700);
            for folder in [&first, &second] {
                fs::create_dir(folder.path().join("dns")).expect("a folder");
                fs::write(folder.path().join(".state"), "x").expect("a file");
            }
            second.clear().await.expect("removed");
            assert!(own.join("dns").is_dir(), "{name}");
            first.clear().await.expect("removed");
            assert!(!own.exists(), "{name}");
            assert_eq!(at(name).exists(), stays, "{name}");
        }
        assert_eq!(fs::read_dir(at("full")).expect("there").count(), 1, "what was there");
        assert!(at("full/of").is_dir() && at("link").is_symlink());
    }
}
