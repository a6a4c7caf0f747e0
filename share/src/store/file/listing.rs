//! Walking the share's folders on a thread of its own, at the reader's pace.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::Folder;
use super::system::{Access, classify};
use crate::layout::{Prefix, respelled};
use crate::store::{Listed, StoreError};

/// Lines between the walk and a slow reader.
const AHEAD: usize = 256;

/// Deeper than any path of the layout: folders below are foreign and not entered.
const MAX_DEPTH: usize = 6;

type Line = Result<Listed, StoreError>;

pub(super) fn list(folder: Arc<Folder>, prefix: &Prefix) -> BoxStream<'static, Line> {
    let below = prefix.to_string();
    let start = async move {
        let (lines, rest) = mpsc::channel(AHEAD);
        // It ends when the reader drops its end, or at the next error.
        tokio::task::spawn_blocking(move || {
            let walk = Walk { folder: &folder, lines };
            if let Err(Stop::Failed(name, error)) = walk.run(&below) {
                let _ = walk.lines.blocking_send(Err(walk.folder.explain_walk(name, error)));
            }
        });
        stream::unfold(rest, |mut rest| async move { rest.recv().await.map(|line| (line, rest)) })
    };
    stream::once(start).flatten().boxed()
}

impl Folder {
    fn explain_walk(&self, name: String, error: io::Error) -> StoreError {
        let path = if name.is_empty() { self.root.display().to_string() } else { name };
        classify(path, Access::Enter, error)
    }
}

enum Stop {
    Failed(String, io::Error),
    NobodyReads,
}

struct Walk<'a> {
    folder: &'a Folder,
    lines: mpsc::Sender<Line>,
}

impl Walk<'_> {
    fn run(&self, prefix: &str) -> Result<(), Stop> {
        self.folder.present().map_err(|error| Stop::Failed(String::new(), error))?;
        let name = prefix.trim_end_matches('/');
        let root = if name.is_empty() { self.folder.root.clone() } else { self.folder.root.join(name) };
        let depth = name.split('/').filter(|part| !part.is_empty()).count();
        self.enter(&root, name, depth, true)
    }

    fn enter(&self, folder: &Path, name: &str, depth: usize, may_be_absent: bool) -> Result<(), Stop> {
        let failed = |error| Stop::Failed(name.to_owned(), error);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if may_be_absent && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let mut folders: Vec<(PathBuf, String)> = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let base = entry.file_name();
            let child = if name.is_empty() {
                base.to_string_lossy().into_owned()
            } else {
                format!("{name}/{}", base.to_string_lossy())
            };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Gone since it was read: a temporary, or swept.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Stop::Failed(child, error)),
            };
            let child = self.spelled(child, &meta)?;
            if meta.is_dir() && depth + 1 < MAX_DEPTH {
                folders.push((entry.path(), child));
                continue;
            }
            let object = if meta.is_file() { child.parse().ok() } else { None };
            let line = match object {
                Some(path) => Listed::Object { path, size: meta.len() },
                None => Listed::Foreign { name: child },
            };
            self.lines.blocking_send(Ok(line)).map_err(|_| Stop::NobodyReads)?;
        }
        for (folder, name) in folders {
            self.enter(&folder, &name, depth + 1, false)?;
        }
        Ok(())
    }

    /// The name in the layout's spelling, where that leads to the same file: on a file system that ignores case, and changes
    /// it, or has a folder that somebody made beforehand. Where both spellings are two files, the other one is none of ours; nor
    /// is one with a second link, which may be that very spelling.
    fn spelled(&self, name: String, meta: &fs::Metadata) -> Result<String, Stop> {
        let Some(own) = respelled(&name).filter(|_| meta.is_dir() || meta.nlink() == 1) else {
            return Ok(name);
        };
        match fs::symlink_metadata(self.folder.root.join(&own)) {
            Ok(there) if (there.dev(), there.ino()) == (meta.dev(), meta.ino()) => Ok(own),
            Ok(_) => Ok(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(name),
            Err(error) => Err(Stop::Failed(own, error)),
        }
    }
}
