//! Where a drill recovers to: a new folder, or an absent or empty one that was named. What is recovered there is removed again.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::{scratch, screen};

/// How the folders begin that are made where temporary files go.
const PREFIX: &str = "muster-drill-";

/// The folder.
pub(super) struct ScratchFolder {
    path: PathBuf,
    /// It was there before, empty, and stays.
    stays: bool,
    keep: bool,
}

impl ScratchFolder {
    /// The folder that was named, or a new one where temporary files go.
    ///
    /// # Errors
    /// Exit 2 when it holds something, is a link, or cannot be made.
    pub(super) fn at(named: Option<PathBuf>, keep: bool) -> Result<Self, Failure> {
        let unusable = |place: &Path, error: &io::Error| {
            Failure::usage(format!("{} cannot be the folder of the drill", place.display()))
                .because(error.to_string())
                .next("name a folder that is absent or empty, in one that is there: --into DIR")
        };
        let Some(path) = named else {
            let below = env::temp_dir();
            tell_of_leftovers(&below);
            let path = scratch::make(&below, PREFIX).map_err(|error| unusable(&below, &error))?;
            return Ok(Self { path, stays: false, keep });
        };
        // A slash at the end would follow a link.
        let path: PathBuf = path.components().collect();
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).create(&path).map_err(|error| unusable(&path, &error))?;
                Ok(Self { path, stays: false, keep })
            }
            Err(error) => Err(unusable(&path, &error)),
            Ok(found) if !found.is_dir() => {
                let error = io::Error::other("It is a link or a file, and a drill deletes what it makes.");
                Err(unusable(&path, &error))
            }
            Ok(_) => match path.read_dir().map(|mut items| items.next().is_none()) {
                Ok(true) => Ok(Self { path, stays: true, keep }),
                Ok(false) => Err(Failure::usage(format!("{} is not empty", path.display()))
                    .because(
                        "A drill deletes what is in its folder, so that it takes none that holds something.",
                    )
                    .because(
                        "Is it what an interrupted drill left, delete it: it is the fleet's data in clear.",
                    )
                    .next("name a folder that is absent or empty: --into DIR")),
                Err(error) => Err(unusable(&path, &error)),
            },
        }
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
        if !self.stays {
            return scratch::clear(&self.path).await;
        }
        for item in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            match item.file_type() {
                Ok(kind) if kind.is_dir() => scratch::clear(&item.path()).await?,
                Ok(_) | Err(_) => fs::remove_file(item.path()).map_err(|error| {
                    Failure::new(
                        crate::exit::Exit::Failed,
                        format!("{} cannot be removed", item.path().display()),
                    )
                    .because(error.to_string())
                })?,
            }
        }
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
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn only_what_a_drill_made_is_removed() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("full/of")).expect("folders");
        fs::create_dir(at("empty")).expect("a folder");
        fs::write(at("file"), "x").expect("a file");
        symlink(at("empty"), at("link")).expect("a link");
        symlink(at("nowhere"), at("dangling")).expect("a link");
        for name in ["full", "file", "link", "link/", "dangling", "no/such"] {
            let refused = ScratchFolder::at(Some(at(name)), false).err().expect(name);
            assert_eq!(refused.exit(), crate::exit::Exit::Usage, "{name}");
        }
        assert!(at("full/of").is_dir() && at("file").is_file() && at("link").is_symlink());
        assert!(at("dangling").is_symlink() && !at("nowhere").exists());
        for (name, stays) in [("empty", true), ("new", false)] {
            let folder = ScratchFolder::at(Some(at(name)), false).expect(name);
            fs::create_dir(folder.path().join("dns")).expect("a folder");
            fs::write(folder.path().join(".state"), "x").expect("a file");
            folder.clear().await.expect("removed");
            assert_eq!(at(name).exists(), stays, "{name}");
        }
        assert_eq!(fs::read_dir(at("empty")).expect("there").count(), 0);
    }
}
