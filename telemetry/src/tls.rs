//! The process-wide TLS provider: `ring`, the only one in the tree.
//!
//! Must never replace a provider that is there already: whoever came first has connections on it.

use rustls::crypto::{CryptoProvider, ring};
use thiserror::Error;

/// `ring` could not be installed although no provider is there.
#[derive(Debug, Error)]
#[error("rustls accepted no default provider and has none")]
pub struct TlsProviderError;

/// Makes sure that rustls has a default provider. The HTTP client is built without one of its own (so that no
/// second provider enters the tree) and panics when asked for TLS without a default.
///
/// # Errors
/// When rustls takes none and has none.
pub fn install_ring() -> Result<(), TlsProviderError> {
    if CryptoProvider::get_default().is_some() {
        return Ok(());
    }
    // Another thread may win between the question and the answer; then its provider serves as well.
    match ring::default_provider().install_default() {
        Ok(()) => Ok(()),
        Err(_) if CryptoProvider::get_default().is_some() => Ok(()),
        Err(_) => Err(TlsProviderError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_is_fine() {
        assert!(install_ring().is_ok());
        assert!(install_ring().is_ok());
        assert!(CryptoProvider::get_default().is_some());
    }
}
