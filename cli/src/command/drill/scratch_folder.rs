//! Where a drill recovers to: a new folder, or an absent or empty one that was named. What is recovered there is removed again.

use std::env;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::{scratch, screen};

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
    /// Exit 2 when it holds something, or cannot be made.
    pub(super) fn at(named: Option<PathBuf>, keep: bool) -> Result<Self, Failure> {
        let unusable = |place: &Path, error: std::io::Error| {
            Failure::usage(format!("no folder for the drill can be made in {}", place.display()))
                .because(error.to_string())
                .next("name one: --into DIR")
        };
        let Some(path) = named else {
            let below = env::temp_dir();
            let path = scratch::make(&below, "muster-drill-").map_err(|error| unusable(&below, error))?;
            return Ok(Self { path, stays: false, keep });
        };
        match path.read_dir().map(|mut items| items.next().is_none()) {
            Ok(true) => Ok(Self { path, stays: true, keep }),
            Ok(false) => Err(Failure::usage(format!("{} is not empty", path.display()))
                .because("A drill deletes its folder, so that it takes none that holds something.")
                .next("name a folder that is absent or empty: --into DIR")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                if !parent.is_dir() {
                    let error = std::io::Error::other(format!("{} is no folder", parent.display()));
                    return Err(unusable(parent, error));
                }
                Ok(Self { path, stays: false, keep })
            }
            Err(error) => Err(unusable(&path, error)),
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
        scratch::clear(&self.path).await?;
        if self.stays {
            std::fs::create_dir(&self.path).ok();
        }
        Ok(())
    }
}
