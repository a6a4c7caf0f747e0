//! A command source that waits: a test decides when its capture goes on, and so what happens while a round is open.

use std::path::{Path, PathBuf};

use crate::fleet::text;
use crate::process::wait_for;

/// The place of a file that lets captures through once it exists.
#[derive(Debug)]
pub struct Gate(PathBuf);

impl Gate {
    /// A closed gate at a path that is free.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// `command:…`, a source that prints `file` once the gate is open.
    ///
    /// # Panics
    /// When a path is no text.
    #[must_use]
    pub fn source(&self, file: &Path) -> String {
        let script = format!(
            "touch '{0}.waiting'; while [ ! -e '{0}' ]; do sleep 0.02; done; cat '{1}'",
            text(&self.0),
            text(file)
        );
        format!("command:{}", serde_json::to_string(&["sh", "-c", &script]).expect("JSON"))
    }

    /// Waits until a capture stands before it.
    pub fn wait_for_capture(&self) {
        let waiting = PathBuf::from(format!("{}.waiting", text(&self.0)));
        wait_for("the gated capture has begun", || waiting.exists().then_some(()));
    }

    /// The next capture is waited for as the first was.
    ///
    /// # Panics
    /// When none has begun yet.
    pub fn forget_captures(&self) {
        std::fs::remove_file(format!("{}.waiting", text(&self.0))).expect("a capture has begun");
    }

    /// Holds captures up again.
    ///
    /// # Panics
    /// When it is not open.
    pub fn close(&self) {
        std::fs::remove_file(&self.0).expect("the gate was open");
    }

    /// Lets captures through.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn open(&self) {
        std::fs::write(&self.0, b"").expect("the gate opens");
    }
}
