//! The certificate of the HTTP API. Read at the start, and again whenever its files change: whoever renews it restarts nothing. New
//! files that cannot be used are told, and the former ones stay in use.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use muster_protocol::causes::causes;
use muster_share::secret_file::{self, SecretFileError};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::config::HttpConfig;

/// Why there is no TLS although it is configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate cannot be read.
    #[error("[http] certificate: {} cannot be read", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The file has no certificate in it.
    #[error("[http] certificate: {} holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key's file cannot be used.
    #[error("[http] key cannot be used")]
    KeyFile(#[from] SecretFileError),
    /// The file has no key in it.
    #[error("[http] key: {} holds no private key in PEM form", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// They are none of each other's.
    #[error("[http] certificate and key do not fit together")]
    Pair(#[from] rustls::Error),
}

/// What of a file tells that it is another one.
type Print = Option<(u64, u64, i64, i64)>;

/// What speaks TLS with the certificate that is in its file now.
pub(super) struct Tls {
    config: HttpConfig,
    in_use: Mutex<InUse>,
}

struct InUse {
    acceptor: TlsAcceptor,
    /// The files as they were last read, whether they could be used or not.
    read: [Print; 2],
}

impl Tls {
    /// That of this configuration; none where it is not to speak any.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub(super) fn open(config: &HttpConfig) -> Result<Option<Self>, TlsError> {
        if !config.is_encrypted() {
            return Ok(None);
        }
        // Looked at before they are read: a change in between is another one then.
        let read = prints(config);
        let in_use = Mutex::new(InUse { acceptor: acceptor(config)?, read });
        Ok(Some(Self { config: config.clone(), in_use }))
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let now = prints(&self.config);
        if now != in_use.read {
            in_use.read = now;
            match acceptor(&self.config) {
                Ok(acceptor) => {
                    tracing::info!("the HTTP API has a new certificate");
                    in_use.acceptor = acceptor;
                }
                Err(error) => tracing::warn!(
                    error = causes(&error),
                    "the HTTP API's new certificate cannot be used; the former one stays in use"
                ),
            }
        }
        in_use.acceptor.clone()
    }
}

fn prints(config: &HttpConfig) -> [Print; 2] {
    [&config.certificate, &config.key].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    })
}

fn acceptor(config: &HttpConfig) -> Result<TlsAcceptor, TlsError> {
    let path = config.certificate.clone();
    let read = CertificateDer::pem_file_iter(&path).and_then(|chain| chain.collect::<Result<Vec<_>, _>>());
    let chain = match read {
        Ok(chain) if chain.is_empty() => return Err(TlsError::NoCertificate { path }),
        Ok(chain) => chain,
        Err(source) => return Err(TlsError::Certificate { path, source }),
    };
    let text = secret_file::read(&config.key)?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|source| TlsError::Key { path: config.key.clone(), source })?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
