//! How objects and slots of the log come to be.

use std::io;

use bytes::Bytes;
use muster_protocol::entropy::random;
use muster_protocol::ids::hex;
use smb2::ErrorKind;

use super::SmbStore;
use super::error::{Access, lacks_folder};
use super::new_file::NewFile;
use super::pool::Lease;
use crate::entropy::OsEntropy;
use crate::layout::{ObjectPath, Prefix, TEMPORARY};
use crate::store::StoreError;

impl SmbStore {
    /// Creates an object whose name is its hash. A torn one is harmless: its length or hash betrays it.
    pub(super) async fn create_object(&self, path: &ObjectPath, bytes: &Bytes) -> Result<(), StoreError> {
        let lease = self.pool.lease().await?;
        let name = path.to_string();
        let failed = |error| self.failed(&lease, name.clone(), Access::Write, error);
        let file = self.create_file(&lease, &name, &name).await?;
        let written = async {
            file.write(bytes).await?;
            file.flush().await
        };
        if let Err(error) = written.await {
            // The file is ours alone: this call created it. A full share gets its room back.
            file.take_back().await;
            return Err(failed(error));
        }
        let have = file.close().await.map_err(failed)?;
        if have == bytes.len() as u64 {
            Ok(())
        } else {
            Err(lost(name, format!("has {have} of {} bytes", bytes.len())))
        }
    }

    /// Creates a slot that several writers may race for: whole or not at all, and never another's. Own bytes in it are
    /// success, whoever put them there.
    pub(super) async fn publish(&self, path: &ObjectPath, bytes: &Bytes) -> Result<(), StoreError> {
        let lease = self.pool.lease().await?;
        let name = path.to_string();
        match self.holds(&lease, &name, bytes).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(StoreError::AlreadyExists { path: name }),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let temporary = format!("{}{TEMPORARY}{}", Prefix::Log, hex(&random::<8>(&mut OsEntropy)));
        let mut file = self.create_file(&lease, &temporary, &name).await?;
        let failed = |error| self.failed(&lease, name.clone(), Access::Write, error);
        let written = async {
            file.write(bytes).await?;
            file.flush().await?;
            file.holds(bytes).await
        };
        match written.await {
            Ok(true) => {}
            Ok(false) => {
                file.take_back().await;
                return Err(lost(name, "does not hold what was written".to_owned()));
            }
            Err(error) => {
                file.take_back().await;
                return Err(failed(error));
            }
        }
        if let Err(error) = file.rename(&self.path(&name)).await {
            let taken = error.kind() == ErrorKind::AlreadyExists;
            file.take_back().await;
            let error = failed(error);
            return match self.holds(&lease, &name, bytes).await {
                Ok(true) => Ok(()),
                Ok(false) if taken => Err(StoreError::AlreadyExists { path: name }),
                Ok(false) | Err(_) => Err(error),
            };
        }
        // The name as well as the bytes.
        file.flush().await.map_err(failed)?;
        let have = file.close().await.map_err(failed)?;
        if have == bytes.len() as u64 {
            Ok(())
        } else {
            Err(lost(name, format!("has {have} of {} bytes", bytes.len())))
        }
    }

    /// Creates this file, and folders that it lacks. Errors name `shown`.
    async fn create_file(&self, lease: &Lease<'_>, name: &str, shown: &str) -> Result<NewFile, StoreError> {
        let path = self.path(name);
        let failed = |error| self.failed(lease, shown.to_owned(), Access::Write, error);
        match NewFile::create(lease, &path).await {
            Ok(file) => Ok(file),
            Err(error) if lacks_folder(&error) => {
                self.make_folders(lease, name.rsplit_once('/').map_or("", |(folder, _)| folder)).await?;
                NewFile::create(lease, &path).await.map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes this folder and those between it and the share's folder, which itself is never made.
    async fn make_folders(&self, lease: &Lease<'_>, folder: &str) -> Result<(), StoreError> {
        let mut missing = vec![folder];
        while let Some(folder) = missing.last() {
            if folder.is_empty() {
                self.present(lease).await?;
                missing.pop();
                continue;
            }
            let made = lease.tree().create_directory(&mut lease.connection(), &self.path(folder)).await;
            match made {
                Ok(()) => {
                    missing.pop();
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    missing.pop();
                }
                Err(error) if lacks_folder(&error) && missing.len() <= folder.len() => {
                    missing.push(folder.rsplit_once('/').map_or("", |(parent, _)| parent));
                }
                Err(error) => {
                    return Err(self.failed(lease, (*folder).to_owned(), Access::Write, error));
                }
            }
        }
        Ok(())
    }

    /// Whether the object is exactly these bytes. Something that is no file is others.
    async fn holds(&self, lease: &Lease<'_>, name: &str, bytes: &Bytes) -> Result<bool, StoreError> {
        match self.read(lease, name, None, bytes.len() as u64).await {
            Ok(there) => Ok(there == *bytes),
            Err(StoreError::TooLong { .. } | StoreError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn lost(path: String, what: String) -> StoreError {
    StoreError::Io { path, source: io::Error::other(format!("the server {what}")) }
}
