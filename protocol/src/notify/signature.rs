//! How a receiver knows that a message is ours: HMAC-SHA256 (RFC 2104) over the time of sending and the body.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ids::hex;

/// The header that carries it.
pub const SIGNATURE_HEADER: &str = "Muster-Signature";

/// `t=<unix seconds>,v1=<hexadecimal HMAC of "<unix seconds>.<body>">`. The time is signed as well, so that a receiver can refuse
/// what was recorded and is sent again.
#[must_use]
pub fn signature(secret: &[u8], at_secs: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(format!("{at_secs}.").as_bytes());
    mac.update(body);
    format!("t={at_secs},v1={}", hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::signature;

    /// The answer is that of `printf '1700000000.{}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn a_stock_tool_comes_to_the_same() {
        assert_eq!(
            signature(b"secret", 1_700_000_000, b"{}"),
            "t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
        );
    }
}
