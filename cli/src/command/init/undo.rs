//! Takes back what was made, newest first, unless everything succeeded.

use std::fs;
use std::path::PathBuf;

enum Made {
    File(PathBuf),
    Folder(PathBuf),
}

/// What was made so far. Dropped, it removes exactly that: a folder only while it is empty again.
pub(crate) struct Undo {
    made: Vec<Made>,
}

impl Undo {
    pub(crate) fn new() -> Self {
        Self { made: Vec::new() }
    }

    /// A file was made.
    pub(crate) fn file(&mut self, path: PathBuf) {
        self.made.push(Made::File(path));
    }

    /// A folder was made.
    pub(crate) fn folder(&mut self, path: PathBuf) {
        self.made.push(Made::Folder(path));
    }

    /// All went well.
    pub(crate) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(made) = self.made.pop() {
            // What cannot be taken back stays; the error that led here is the one to show.
            drop(match made {
                Made::File(path) => fs::remove_file(path),
                Made::Folder(path) => fs::remove_dir(path),
            });
        }
    }
}
