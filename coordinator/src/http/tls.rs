//! The certificate of the HTTP API. Read once, at the start: a new one takes a restart.

use std::path::PathBuf;
use std::sync::Arc;

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

/// What speaks TLS for this configuration; none where it is not to.
///
/// # Errors
/// The file that cannot be used, and why.
pub(super) fn acceptor(config: &HttpConfig) -> Result<Option<TlsAcceptor>, TlsError> {
    if !config.is_encrypted() {
        return Ok(None);
    }
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
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}
