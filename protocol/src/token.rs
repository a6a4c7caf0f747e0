//! Tokens: who may use the HTTP API of the coordinators, and as what. They stand among the signed settings of the fleet, so that every
//! coordinator knows them from the log, and a revocation is as public as any other change.
//!
//! Kept is SHA-256 of a secret of 256 random bits and nothing else: whoever reads the log learns nothing that opens anything, and
//! there is nothing to guess that a slow hash would have to protect.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::entropy::{Entropy, random};
use crate::ids::{MemberName, hex, unhex};
use crate::schedule::{NONE, moment, rfc3339};
use crate::time::UnixMillis;

/// How the settings of tokens begin; the token's name follows.
pub const PREFIX: &str = "token.";
/// Most tokens of a fleet: all settings share one log record.
pub const MAX_TOKENS: usize = 64;
/// The longest name in bytes, so that `token-NAME` is a name as well, by which acknowledgements are known.
pub const MAX_NAME_LEN: usize = 26;
/// How secrets begin, so that people and programs that look for spilled secrets know one.
const SECRET_PREFIX: &str = "muster_";

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRole {
    /// Look.
    Viewer,
    /// Look, start and cancel rounds, acknowledge alerts.
    Operator,
}

impl TokenRole {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// What is known of a token: never its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it may do.
    pub role: TokenRole,
    /// SHA-256 of its secret's text.
    pub hash: [u8; 32],
    /// When it ends by itself; none: never.
    pub until: Option<UnixMillis>,
}

impl Token {
    /// As the settings have it: `operator sha256=… until=2027-03-01T00:00:00Z`.
    #[must_use]
    pub fn print(&self) -> String {
        let until = self.until.and_then(rfc3339).unwrap_or_else(|| NONE.to_owned());
        format!("{} sha256={} until={until}", self.role.word(), hex(&self.hash))
    }

    /// What a setting says.
    ///
    /// # Errors
    /// What it must be, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let must = || "must be ROLE sha256=HASH until=TIME, as muster token new writes it".to_owned();
        let mut words = text.split(' ');
        let (role, hash, until) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(role), Some(hash), Some(until), None) => (role, hash, until),
            _ => return Err(must()),
        };
        let role = match role {
            "viewer" => TokenRole::Viewer,
            "operator" => TokenRole::Operator,
            _ => return Err(must()),
        };
        let hash = hash.strip_prefix("sha256=").and_then(unhex).ok_or_else(must)?;
        let until = match until.strip_prefix("until=").ok_or_else(must)? {
            NONE => None,
            time => Some(moment(time, "UTC").map_err(|_| must())?),
        };
        Ok(Self { role, hash, until })
    }

    /// Whether it has ended by this time.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

/// Whether a setting of a token may stand: its name and its value.
///
/// # Errors
/// What it must be, in words.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    name_of(key)?;
    Token::parse(value).map(drop)
}

/// The token's name in its setting's key.
///
/// # Errors
/// What it must be, in words.
pub fn name_of(key: &str) -> Result<MemberName, String> {
    let name = key.strip_prefix(PREFIX).unwrap_or_default();
    name.parse::<MemberName>()
        .ok()
        .filter(|_| name.len() <= MAX_NAME_LEN)
        .ok_or_else(|| format!("must name a token by [a-z][a-z0-9-]*, at most {MAX_NAME_LEN} bytes long"))
}

/// The setting of the token with this name.
#[must_use]
pub fn key_of(name: &MemberName) -> String {
    format!("{PREFIX}{name}")
}

/// The tokens among the settings. One that this version cannot read opens nothing.
#[must_use]
pub fn tokens(clear: &BTreeMap<String, String>) -> BTreeMap<MemberName, Token> {
    let ours = clear.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX));
    ours.filter_map(|(key, value)| Some((name_of(key).ok()?, Token::parse(value).ok()?))).collect()
}

/// The token that this secret is of. Every hash is compared in constant time, whichever fits.
#[must_use]
pub fn find<'a>(
    tokens: &'a BTreeMap<MemberName, Token>,
    secret: &str,
) -> Option<(&'a MemberName, &'a Token)> {
    let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    let mut found = None;
    for (name, token) in tokens {
        if bool::from(token.hash.ct_eq(&hash)) {
            found = Some((name, token));
        }
    }
    found
}

/// The secret of a new token, which is shown once and kept by whoever uses it.
pub struct Secret(String);

impl Secret {
    /// A new one.
    #[must_use]
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut bytes: [u8; 32] = random(entropy);
        let mut digits = hex(&bytes);
        let secret = Self(format!("{SECRET_PREFIX}{digits}"));
        bytes.zeroize();
        digits.zeroize();
        secret
    }

    /// Its text, for the one file that it goes to.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Secret, Token, TokenRole, check, find, key_of, tokens};
    use crate::entropy::Entropy;
    use crate::time::UnixMillis;

    struct Fixed(u8);

    impl Entropy for Fixed {
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let until = Some(UnixMillis(1_800_000_000_000));
        for token in [
            Token { role: TokenRole::Operator, hash: [7; 32], until },
            Token { role: TokenRole::Viewer, hash: [0; 32], until: None },
        ] {
            assert_eq!(Token::parse(&token.print()), Ok(token));
            assert_eq!(check("token.ci", &token.print()), Ok(()));
        }
        let good = Token { role: TokenRole::Viewer, hash: [1; 32], until: None }.print();
        for (key, value) in [
            ("token.", good.as_str()),
            ("token.Ci", &good),
            ("token.abcdefghijklmnopqrstuvwxyz0", &good),
            ("token.ci", "viewer"),
            ("token.ci", "admin sha256=00 until=none"),
            ("token.ci", &good.replace("until=none", "until=soon")),
            ("token.ci", &good.replace("sha256=0101", "sha256=01")),
            ("token.ci", &format!("{good} more")),
        ] {
            assert!(check(key, value).is_err(), "{key} {value}");
        }
    }

    #[test]
    fn a_secret_finds_its_token_and_its_end() {
        let secret = Secret::generate(&mut Fixed(3));
        let other = Secret::generate(&mut Fixed(4));
        assert_eq!(secret.reveal().len(), 7 + 64);
        assert!(!format!("{secret:?}").contains("0303"));
        let token = Token { role: TokenRole::Operator, hash: secret.hash(), until: Some(UnixMillis(5_000)) };
        let name = "ci".parse().expect("a name");
        let mut clear = BTreeMap::from([(key_of(&name), token.print())]);
        clear.insert("token.broken".to_owned(), "what a later version says".to_owned());
        clear.insert("schedule".to_owned(), "off".to_owned());
        let known = tokens(&clear);
        assert_eq!(known.len(), 1);
        assert_eq!(find(&known, secret.reveal()), Some((&name, &token)));
        assert_eq!(find(&known, other.reveal()), None);
        assert_eq!(find(&known, &super::hex(&token.hash)), None, "the hash opens nothing");
        assert!(!token.is_over(UnixMillis(4_999)) && token.is_over(UnixMillis(5_000)));
    }
}
