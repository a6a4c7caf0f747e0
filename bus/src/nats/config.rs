//! Where the NATS servers are and who we are to them.

use crate::{ConnectError, Limits, Streams};
use async_nats::{ConnectOptions, ServerAddr};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// How to connect.
#[derive(Clone)]
pub struct NatsConfig {
    /// Addresses, `nats://host:port` or `tls://host:port`; all of one cluster. They are not shown by `Debug`: an
    /// address may hold a password.
    pub urls: Vec<String>,
    /// Name of this client, for people who look at the server.
    pub name: String,
    /// Who we are.
    pub credentials: Credentials,
    /// Certificates (PEM) to trust besides the system's; makes TLS required.
    pub tls_roots: Option<PathBuf>,
    /// Prefix of the subjects that answers come back on. The server's permissions can give each client its own,
    /// so that none reads another's answers: `_INBOX_<name>`.
    pub inbox_prefix: String,
    /// What the server keeps.
    pub streams: Streams,
    /// The bounds.
    pub limits: Limits,
}

/// Who we are to the server. These are not the keys that sign messages. Secrets come from files only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Nobody in particular, or what the address holds.
    #[default]
    None,
    /// An nkey: a file with the seed (`SU…`) in its first line.
    NkeySeedFile(PathBuf),
    /// A user's JWT and seed in one file, as `nsc` writes it.
    CredentialsFile(PathBuf),
    /// A name, and a file with the password in its first line.
    User {
        /// The user's name.
        name: String,
        /// The file.
        password_file: PathBuf,
    },
}

impl NatsConfig {
    /// One server, no credentials, default limits.
    #[must_use]
    pub fn new(url: impl Into<String>, name: impl Into<String>, streams: Streams) -> Self {
        Self {
            urls: vec![url.into()],
            name: name.into(),
            credentials: Credentials::None,
            tls_roots: None,
            inbox_prefix: "_INBOX".to_owned(),
            streams,
            limits: Limits::default(),
        }
    }

    /// The addresses, parsed.
    pub(crate) fn addresses(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        if self.urls.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let parse = |(index, url): (usize, &String)| {
            url.parse().map_err(|source| ConnectError::Address { number: index + 1, source })
        };
        self.urls.iter().enumerate().map(parse).collect()
    }

    /// Host and port of each address, for messages; nothing that may be secret.
    pub(crate) fn servers(&self) -> String {
        let addresses = self.urls.iter().filter_map(|url| url.parse::<ServerAddr>().ok());
        let shown: Vec<_> =
            addresses.map(|address| format!("{}:{}", address.host(), address.port())).collect();
        shown.join(", ")
    }

    /// Adds who we are to the client's options.
    pub(crate) fn sign_on(&self, options: ConnectOptions) -> Result<ConnectOptions, ConnectError> {
        match &self.credentials {
            Credentials::None => Ok(options),
            Credentials::NkeySeedFile(path) => Ok(options.nkey(first_line(path)?)),
            Credentials::CredentialsFile(path) => {
                options.credentials(&read(path)?).map_err(|source| unreadable(path, source))
            }
            Credentials::User { name, password_file } => {
                Ok(options.user_and_password(name.clone(), first_line(password_file)?))
            }
        }
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.servers())
            .field("name", &self.name)
            .field("credentials", &self.credentials)
            .field("tls_roots", &self.tls_roots)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("streams", &self.streams)
            .field("limits", &self.limits)
            .finish()
    }
}

fn read(path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|source| unreadable(path, source))
}

fn first_line(path: &Path) -> Result<String, ConnectError> {
    Ok(read(path)?.lines().next().unwrap_or_default().trim().to_owned())
}

fn unreadable(path: &Path, source: std::io::Error) -> ConnectError {
    ConnectError::Credentials { path: path.to_owned(), source }
}
