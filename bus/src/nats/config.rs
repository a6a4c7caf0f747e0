//! Where the NATS servers are and who we are to them.

use super::nkey::{UserKey, inbox_prefix};
use crate::{ConnectError, Limits, Streams};
use async_nats::{Auth, ConnectOptions, ServerAddr};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a file with a certificate holds (RFC 7468).
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

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
    /// The only certificates (PEM) that are trusted; makes TLS required. None: the system's, if the address says `tls://`.
    pub tls_roots: Option<PathBuf>,
    /// Prefix of the subjects that answers come back on. The server's permissions can give each client its own,
    /// so that none reads another's answers: `_INBOX_<name>`.
    pub inbox_prefix: String,
    /// Whether the connection is tried out by messages to ourselves ([`NatsConfig::with_echo`]).
    pub echo: bool,
    /// What the server keeps.
    pub streams: Streams,
    /// The bounds.
    pub limits: Limits,
}

/// Who we are to the server. These are not the keys that sign messages. Secrets come from files only.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Nobody in particular, or what the address holds.
    #[default]
    None,
    /// An nkey.
    Nkey(Arc<UserKey>),
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
            echo: false,
            streams,
            limits: Limits::default(),
        }
    }

    /// The same with the nkey in one file and the CA's certificate in another; an empty path means none. With an nkey,
    /// answers come back below [`inbox_prefix`] of `group`. Both files are looked at now, so that what a person must
    /// mend is said before anything is waited for.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, or others may read the nkey.
    pub fn with_files(mut self, nkey: &Path, ca: &Path, group: &str) -> Result<Self, ConnectError> {
        if !nkey.as_os_str().is_empty() {
            let key = UserKey::read(nkey)?;
            self.inbox_prefix = inbox_prefix(group, &key.public());
            self.credentials = Credentials::Nkey(Arc::new(key));
        }
        if !ca.as_os_str().is_empty() {
            let wrong = |source| ConnectError::Ca { path: ca.to_owned(), source };
            let text = std::fs::read(ca).map_err(wrong)?;
            if !text.windows(CERTIFICATE.len()).any(|part| part == CERTIFICATE) {
                return Err(wrong(std::io::Error::other("it holds no certificate in PEM form")));
            }
            self.tls_roots = Some(ca.to_owned());
        }
        Ok(self)
    }

    /// The same, tried out by messages to ourselves, for which it needs permission: for those who hear so much that the
    /// client itself never finds the connection idle, and would not notice that nothing of theirs goes out any more.
    #[must_use]
    pub fn with_echo(mut self) -> Self {
        self.echo = true;
        self
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

    /// The client's options, begun with who we are.
    pub(crate) fn sign_on(&self) -> Result<ConnectOptions, ConnectError> {
        let options = ConnectOptions::new();
        match &self.credentials {
            Credentials::None => Ok(options),
            // Signed here, because the client would keep the seed as plain text for as long as it lives.
            Credentials::Nkey(key) => {
                let key = Arc::clone(key);
                Ok(ConnectOptions::with_auth_callback(move |challenge| {
                    let mut auth = Auth::new();
                    auth.nkey = Some(key.public());
                    auth.signature = Some(key.sign(&challenge));
                    std::future::ready(Ok(auth))
                }))
            }
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
            .field("echo", &self.echo)
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
