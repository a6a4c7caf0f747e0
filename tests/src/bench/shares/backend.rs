//! The kinds of shares that are measured: a real server of each, and the stock client that writes the same bytes to it.

use std::path::Path;

use muster_test_servers::{Azurite, Samba, SeaweedFs};

/// A kind of share, with its server running.
#[derive(Debug)]
pub(super) enum Backend {
    /// A folder of this machine.
    Folder,
    /// Samba.
    Smb(Samba),
    /// SeaweedFS.
    S3(SeaweedFs),
    /// Azurite.
    Azure(Azurite),
}

/// Starts a server.
type Start = fn() -> Backend;

impl Backend {
    /// All of them by their slugs, each with what starts its server: one runs at a time.
    pub(super) fn all() -> [(&'static str, Start); 4] {
        [
            ("folder", || Self::Folder),
            ("smb", || Self::Smb(Samba::start())),
            ("s3", || Self::S3(SeaweedFs::with_volumes_of(1024))),
            ("azure", || Self::Azure(Azurite::start())),
        ]
    }

    /// In the table.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Smb(_) => "SMB (Samba)",
            Self::S3(_) => "S3 (SeaweedFS)",
            Self::Azure(_) => "Azure (Azurite)",
        }
    }

    /// In names of folders.
    pub(super) fn slug(&self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Smb(_) => "smb",
            Self::S3(_) => "s3",
            Self::Azure(_) => "azure",
        }
    }

    /// The stock client, in the table.
    pub(super) fn client(&self) -> &'static str {
        match self {
            Self::Folder => "cp, sync",
            Self::Smb(_) => "smbclient",
            Self::S3(_) | Self::Azure(_) => "rclone",
        }
    }

    /// The address of the share with this name, below `work` where it is a folder.
    pub(super) fn url(&self, work: &Path, name: &str) -> String {
        match self {
            Self::Folder => work.join(name).display().to_string(),
            Self::Smb(server) => server.url(name),
            Self::S3(server) => server.url(name),
            Self::Azure(server) => server.url("backups", name),
        }
    }

    /// The file with its credentials; empty for none.
    pub(super) fn credentials(&self) -> String {
        match self {
            Self::Folder => String::new(),
            Self::Smb(_) => Samba::credentials("agent"),
            Self::S3(_) => SeaweedFs::credentials("admin"),
            Self::Azure(_) => Azurite::credentials(),
        }
    }

    /// The command with which the stock client copies the folder `from` to a place with this name.
    pub(super) fn copy(&self, from: &Path, work: &Path, name: &str) -> String {
        let from = from.display();
        let rclone = |to: String| {
            format!(
                "\"$MUSTER_SERVERS/rclone\" copy --config '' --transfers 4 --no-traverse --s3-no-check-bucket {from} \"{to}\""
            )
        };
        match self {
            Self::Folder => {
                let to = work.join(name);
                format!("cp -r {from} {0} && sync -f {0}", to.display())
            }
            // Signed, as Muster's own client always does.
            Self::Smb(server) => {
                let (user, password) = (Samba::user("agent"), Samba::password("agent"));
                let port = server.address().port();
                let host = server.address().ip();
                format!(
                    "USER='{user}' PASSWD='{password}' smbclient //{host}/backups -p {port} --client-protection=sign \
                     -c 'prompt OFF; recurse ON; mkdir {name}; cd {name}; lcd {from}; mput *'"
                )
            }
            Self::S3(server) => rclone(format!(
                ":s3,provider=SeaweedFS,access_key_id=AKADMIN,secret_access_key=SKADMIN,endpoint='{}':backups/{name}",
                server.endpoint()
            )),
            Self::Azure(server) => {
                let credentials = Azurite::credentials();
                let key =
                    credentials.trim().split_once(" = ").map(|(_, key)| key.to_owned()).unwrap_or_default();
                rclone(format!(
                    ":azureblob,account=devstoreaccount1,key='{key}',endpoint='{}':backups/{name}",
                    server.endpoint()
                ))
            }
        }
    }
}
