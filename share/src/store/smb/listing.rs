//! Walking the share's folders, one answer of the server in memory, at the reader's pace.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, StreamExt};
use smb2::{DirectoryEntry, DirectoryReader, ErrorKind, FileIdentity};

use super::SmbStore;
use super::error::{Access, lacks_folder};
use super::pool::Lease;
use crate::layout::{Prefix, respelled};
use crate::store::{Listed, StoreError};

/// Deeper than any path of the layout: folders below are foreign and not entered.
const MAX_DEPTH: usize = 6;

pub(super) fn list<'a>(store: &'a SmbStore, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
    let top = prefix.to_string().trim_end_matches('/').to_owned();
    let walk = Walk { store, lease: None, top, folders: Vec::new(), open: None, lines: VecDeque::new() };
    stream::try_unfold(walk, |mut walk| async move { Ok(walk.next().await?.map(|line| (line, walk))) })
        .boxed()
}

struct Walk<'a> {
    store: &'a SmbStore,
    /// None before the first line is asked for.
    lease: Option<Lease<'a>>,
    top: String,
    /// To be entered.
    folders: Vec<Folder>,
    open: Option<(Folder, DirectoryReader)>,
    lines: VecDeque<Listed>,
}

struct Folder {
    /// Below the share's folder; empty for that itself.
    name: String,
    depth: usize,
}

impl Walk<'_> {
    async fn next(&mut self) -> Result<Option<Listed>, StoreError> {
        if self.lease.is_none() {
            let lease = self.store.pool.lease().await?;
            let depth = self.top.split('/').filter(|part| !part.is_empty()).count();
            let top = Folder { name: self.top.clone(), depth };
            self.open = enter(self.store, &lease, top, true).await?;
            self.lease = Some(lease);
        }
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            let Some((folder, reader)) = &mut self.open else {
                let (Some(folder), Some(lease)) = (self.folders.pop(), self.lease.take()) else {
                    return Ok(None);
                };
                let opened = enter(self.store, &lease, folder, false).await;
                self.lease = Some(lease);
                self.open = opened?;
                continue;
            };
            match reader.next_batch().await {
                Ok(Some(entries)) => {
                    let (name, depth) = (folder.name.clone(), folder.depth);
                    for entry in entries {
                        self.take(&name, depth, &entry).await?;
                    }
                }
                Ok(None) => self.open = None,
                Err(error) => {
                    let name = self.store.shown(&folder.name);
                    return Err(match &self.lease {
                        Some(lease) => self.store.failed(lease, name, Access::Read, error),
                        None => super::error::classify(name, Access::Read, error),
                    });
                }
            }
        }
    }

    async fn take(&mut self, folder: &str, depth: usize, entry: &DirectoryEntry) -> Result<(), StoreError> {
        if matches!(entry.name.as_str(), "." | "..") {
            return Ok(());
        }
        let name = if folder.is_empty() { entry.name.clone() } else { format!("{folder}/{}", entry.name) };
        let name = spelled(self.store, self.lease.as_ref(), name).await?;
        if entry.is_directory && !entry.is_link() && depth + 1 < MAX_DEPTH {
            self.folders.push(Folder { name, depth: depth + 1 });
            return Ok(());
        }
        let object = if entry.is_directory || entry.is_link() { None } else { name.parse().ok() };
        self.lines.push_back(match object {
            Some(path) => Listed::Object { path, size: entry.size },
            None => Listed::Foreign { name },
        });
        Ok(())
    }
}

/// The name in the layout's spelling, where that leads to the same file: on a server that ignores case, and changes it, or
/// has a folder that somebody made beforehand. Where both spellings are two files, the other one is none of ours.
async fn spelled(store: &SmbStore, lease: Option<&Lease<'_>>, name: String) -> Result<String, StoreError> {
    let (Some(own), Some(lease)) = (respelled(&name), lease) else { return Ok(name) };
    let same = match (identity(store, lease, &own).await?, identity(store, lease, &name).await?) {
        (Some(own), Some(there)) => own == there,
        (None, _) | (_, None) => false,
    };
    Ok(if same { own } else { name })
}

/// Which file of the server this is; `None` where there is none, or the server does not say.
async fn identity(
    store: &SmbStore,
    lease: &Lease<'_>,
    name: &str,
) -> Result<Option<FileIdentity>, StoreError> {
    match lease.tree().stat_with_identity(&mut lease.connection(), &store.path(name)).await {
        Ok((_, identity)) => Ok(identity),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(store.failed(lease, name.to_owned(), Access::Read, error)),
    }
}

async fn enter(
    store: &SmbStore,
    lease: &Lease<'_>,
    folder: Folder,
    may_be_absent: bool,
) -> Result<Option<(Folder, DirectoryReader)>, StoreError> {
    let path = store.path(&folder.name);
    match lease.tree().open_directory_reader(lease.connection(), &path).await {
        Ok(reader) => Ok(Some((folder, reader))),
        Err(error) if may_be_absent && error.kind() == ErrorKind::NotFound => {
            if folder.name.is_empty() || lacks_folder(&error) {
                store.present(lease).await?;
            }
            Ok(None)
        }
        Err(error) => Err(store.failed(lease, store.shown(&folder.name), Access::Read, error)),
    }
}
