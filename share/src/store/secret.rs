//! The credentials that shares take, as a file of lines `name = value`, the form of `mount.cifs`:
//!
//! ```text
//! smb      username, password, domain      username may be DOMAIN\user or user@domain
//! s3       access_key_id, secret_access_key, session_token
//! azblob   account_key  or  sas_token
//! ```
//!
//! A value reaches to the end of its line, without blanks around it; lines that begin with `#` are comments. Nothing in
//! here prints a value.

use std::fmt;

use object_store::azure::{AzureAccessKey, split_sas};
use zeroize::Zeroizing;

/// A text that is wiped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Hides this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// What is hidden.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// An account of an SMB server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbSecret {
    /// The domain; empty for an account of the server itself, or where the user is a principal name.
    pub domain: String,
    /// The user, or `user@domain`.
    pub user: String,
    /// The password.
    pub password: Hidden,
}

/// A key pair of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Secret {
    /// The access key's id.
    pub key: String,
    /// The secret access key.
    pub secret: Hidden,
    /// Of temporary credentials.
    pub token: Option<Hidden>,
}

/// What opens a container of Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureSecret {
    /// The account's key, base64.
    Key(Hidden),
    /// A shared access signature: `sv=…&sig=…`.
    Sas(Hidden),
}

/// Why credentials cannot be used. Names lines and keys, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not UTF-8.
    #[error("the share's credentials are no text")]
    NoText,
    /// A line that is no `name = value`.
    #[error("line {line} of the share's credentials is no `name = value`")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
    /// A name that shares of this kind do not have, or one that is there twice.
    #[error("line {line} of the share's credentials: {name} is {what}; {kind} takes {takes}")]
    Name {
        /// Its number, from 1.
        line: usize,
        /// The name, or where it stands if it may be a piece of a secret.
        name: String,
        /// `not known` or `there twice`.
        what: &'static str,
        /// The kind of share.
        kind: &'static str,
        /// The names that it takes.
        takes: &'static str,
    },
    /// A value that no such name has.
    #[error("the share's credentials: {name} {what}")]
    Value {
        /// The name, or the variable.
        name: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Two of which only one may be there.
    #[error("the share's credentials have {one} and {other}: {kind} takes one of them")]
    Both {
        /// One.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// The kind of share.
        kind: &'static str,
    },
    /// Something is missing.
    #[error("the share's credentials lack {name}; {kind} takes {takes}")]
    Lacks {
        /// What.
        name: &'static str,
        /// The kind of share.
        kind: &'static str,
        /// The names that it takes.
        takes: &'static str,
    },
}

struct Kind {
    name: &'static str,
    takes: &'static str,
    names: &'static [&'static str],
}

const SMB: Kind =
    Kind { name: "smb", takes: "username, password, domain", names: &["username", "password", "domain"] };
const S3: Kind = Kind {
    name: "s3",
    takes: "access_key_id, secret_access_key, session_token",
    names: &["access_key_id", "secret_access_key", "session_token"],
};
const AZURE: Kind =
    Kind { name: "azblob", takes: "account_key or sas_token", names: &["account_key", "sas_token"] };

impl SmbSecret {
    /// Reads them.
    ///
    /// # Errors
    /// One that names line and key.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretError> {
        let mut values = Values::read(bytes, &SMB)?;
        let (user, password) = (values.need("username")?, values.need("password")?);
        let domain = values.take("domain").map(|domain| domain.expose().to_owned());
        Ok(Self::new(user.expose(), domain, password))
    }

    /// `DOMAIN\user` is split; the domain that is given apart counts more.
    #[must_use]
    pub fn new(user: &str, domain: Option<String>, password: Hidden) -> Self {
        let (own, user) = user.split_once('\\').map_or(("", user), |(domain, user)| (domain, user));
        Self { domain: domain.unwrap_or_else(|| own.to_owned()), user: user.to_owned(), password }
    }
}

impl S3Secret {
    /// Reads them.
    ///
    /// # Errors
    /// One that names line and key.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretError> {
        let mut values = Values::read(bytes, &S3)?;
        let (key, secret) = (values.need("access_key_id")?, values.need("secret_access_key")?);
        Self { key: key.expose().to_owned(), secret, token: values.take("session_token") }.checked([
            "access_key_id",
            "secret_access_key",
            "session_token",
        ])
    }

    /// Those of the variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, if the first two are set.
    ///
    /// # Errors
    /// One that names the variable.
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SecretError> {
        let [key, secret, token] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let hidden = |name| variable(name).filter(|value| !value.is_empty()).map(|value| Hidden::new(&value));
        let (Some(id), Some(of_it)) = (hidden(key), hidden(secret)) else { return Ok(None) };
        let read = Self { key: id.expose().to_owned(), secret: of_it, token: hidden(token) };
        read.checked([key, secret, token]).map(Some)
    }

    /// Key and token are sent in headers, which take nothing else.
    fn checked(self, names: [&'static str; 3]) -> Result<Self, SecretError> {
        let token = self.token.as_ref().map_or("", Hidden::expose);
        for (name, value) in names.into_iter().zip([self.key.as_str(), self.secret.expose(), token]) {
            printable(name, value)?;
        }
        Ok(self)
    }
}

impl AzureSecret {
    /// Reads them.
    ///
    /// # Errors
    /// One that names line and key.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretError> {
        let mut values = Values::read(bytes, &AZURE)?;
        match (values.take("sas_token"), values.take("account_key")) {
            (Some(_), Some(_)) => {
                Err(SecretError::Both { one: "sas_token", other: "account_key", kind: AZURE.name })
            }
            (Some(sas), None) => Self::Sas(sas).checked("sas_token"),
            (None, Some(key)) => Self::Key(key).checked("account_key"),
            (None, None) => values.need("account_key").map(Self::Key),
        }
    }

    /// That of the variable `AZURE_STORAGE_SAS_TOKEN` or `AZURE_STORAGE_ACCOUNT_KEY`, if one is set.
    ///
    /// # Errors
    /// One that names the variable.
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SecretError> {
        let [sas, key] = ["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY"];
        let hidden = |name| variable(name).filter(|value| !value.is_empty()).map(|value| Hidden::new(&value));
        match (hidden(sas), hidden(key)) {
            (Some(value), _) => Self::Sas(value).checked(sas).map(Some),
            (None, Some(value)) => Self::Key(value).checked(key).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Read as the client will read it.
    fn checked(self, name: &'static str) -> Result<Self, SecretError> {
        match &self {
            Self::Key(key) => {
                if AzureAccessKey::try_new(key.expose()).is_err() {
                    return Err(SecretError::Value {
                        name,
                        what: "is no key of a storage account: that is base64",
                    });
                }
            }
            Self::Sas(sas) => {
                printable(name, sas.expose())?;
                let is_signed = |pairs: Vec<(String, String)>| {
                    pairs.iter().any(|(key, value)| key == "sig" && !value.is_empty())
                };
                if !split_sas(sas.expose()).is_ok_and(is_signed) {
                    let what = "is no shared access signature: that is sv=…&sig=…";
                    return Err(SecretError::Value { name, what });
                }
            }
        }
        Ok(self)
    }
}

/// Whether a value can be sent in the head of a request.
fn printable(name: &'static str, value: &str) -> Result<(), SecretError> {
    if value.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(SecretError::Value { name, what: "has a blank, a control character or one beyond ASCII in it" })
}

struct Values {
    kind: &'static Kind,
    found: Vec<(&'static str, Hidden)>,
}

impl Values {
    fn read(bytes: &[u8], kind: &'static Kind) -> Result<Self, SecretError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NoText)?;
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut found: Vec<(&'static str, Hidden)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let (at, line) = (at + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or(SecretError::Line { line: at })?;
            let (name, value) = (name.trim_end(), value.trim_start());
            let wrong = |what| SecretError::Name {
                line: at,
                name: shown(name, value),
                what,
                kind: kind.name,
                takes: kind.takes,
            };
            let known = kind.names.iter().find(|known| **known == name).ok_or_else(|| wrong("not known"))?;
            if found.iter().any(|(name, _)| name == known) {
                return Err(wrong("there twice"));
            }
            if !value.is_empty() {
                found.push((known, Hidden::new(value)));
            }
        }
        Ok(Self { kind, found })
    }

    fn take(&mut self, name: &str) -> Option<Hidden> {
        let at = self.found.iter().position(|(found, _)| *found == name)?;
        Some(self.found.swap_remove(at).1)
    }

    fn need(&mut self, name: &'static str) -> Result<Hidden, SecretError> {
        let kind = self.kind;
        self.take(name).ok_or(SecretError::Lacks { name, kind: kind.name, takes: kind.takes })
    }
}

/// A name as people see it. What stands before the first `=` of a line that is no such line may be part of a secret: the end of
/// one in base64 has nothing but `=` behind it, and most have digits.
fn shown(name: &str, value: &str) -> String {
    let is_name = (1..=24).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-'))
        && !value.trim_start_matches('=').is_empty();
    if is_name { format!("{name:?}") } else { "what stands before the `=`".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{AzureSecret, S3Secret, SecretError, SmbSecret};

    #[test]
    fn a_file_of_mount_cifs_is_understood() {
        let secret =
            SmbSecret::parse(b"# backups\nusername=backup\npassword = a = b # c \n\ndomain=CORP\r\n");
        let secret = secret.expect("valid");
        assert_eq!((secret.domain.as_str(), secret.user.as_str()), ("CORP", "backup"));
        assert_eq!(secret.password.expose(), "a = b # c");
    }

    #[test]
    fn users_of_domains_have_two_spellings() {
        let parse =
            |user: &str| SmbSecret::parse(format!("username={user}\npassword=x").as_bytes()).expect("valid");
        let (down, principal) = (parse("CORP\\backup"), parse("backup@corp.example.org"));
        assert_eq!((down.domain.as_str(), down.user.as_str()), ("CORP", "backup"));
        assert_eq!((principal.domain.as_str(), principal.user.as_str()), ("", "backup@corp.example.org"));
    }

    #[test]
    fn object_stores_have_theirs() {
        let s3 = S3Secret::parse(b"access_key_id=AK\nsecret_access_key=SK\n").expect("valid");
        assert_eq!((s3.key.as_str(), s3.secret.expose(), s3.token), ("AK", "SK", None));
        let key = AzureSecret::parse(b"account_key=a2V5").expect("valid");
        assert!(matches!(key, AzureSecret::Key(key) if key.expose() == "a2V5"));
        let sas = AzureSecret::parse(b"sas_token=sv=1&sig=2").expect("valid");
        assert!(matches!(sas, AzureSecret::Sas(sas) if sas.expose() == "sv=1&sig=2"));
    }

    #[test]
    fn variables_are_those_of_other_tools() {
        let set =
            |names: &'static [&str]| move |name: &str| names.contains(&name).then(|| format!("the{name}"));
        let whole = S3Secret::of_variables(set(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]));
        let whole = whole.expect("valid").expect("both");
        assert_eq!((whole.key.as_str(), whole.token), ("theAWS_ACCESS_KEY_ID", None));
        assert_eq!(S3Secret::of_variables(set(&["AWS_ACCESS_KEY_ID"])), Ok(None));
        assert_eq!(S3Secret::of_variables(|_| Some(String::new())), Ok(None));
        let key = AzureSecret::of_variables(|name| name.ends_with("ACCOUNT_KEY").then(|| "a2V5".to_owned()));
        assert!(matches!(key, Ok(Some(AzureSecret::Key(_)))));
        assert_eq!(AzureSecret::of_variables(set(&[])), Ok(None));
    }

    #[test]
    fn what_no_request_can_carry_is_refused_by_its_name() {
        let refused = |error: SecretError, name: &str| {
            let said = format!("{error} {error:?}");
            assert!(said.contains(name) && !said.contains("hunter"), "{said}");
        };
        for bad in ["hun\u{1}ter", "hun\0ter", "hünter", "hun ter"] {
            for name in ["access_key_id", "secret_access_key", "session_token"] {
                let file = ["access_key_id", "secret_access_key", "session_token"]
                    .map(|key| format!("{key}={}", if key == name { bad } else { "x" }));
                refused(S3Secret::parse(file.join("\n").as_bytes()).expect_err(name), name);
            }
            refused(
                AzureSecret::parse(format!("sas_token=sv=1&sig={bad}").as_bytes()).expect_err(bad),
                "sas_token",
            );
        }
        let newline =
            |name: &str| Some(if name == "AWS_ACCESS_KEY_ID" { "hunter\nx" } else { "x" }.to_owned());
        refused(S3Secret::of_variables(newline).expect_err("a line's end"), "AWS_ACCESS_KEY_ID");
        for bad in
            ["account_key=hunter2=", "sas_token=hunter2", "sas_token=sv=hunter2&sig=", "sas_token=sig=%ff"]
        {
            let error = AzureSecret::parse(bad.as_bytes()).expect_err(bad);
            refused(error, bad.split('=').next().expect("a name"));
        }
        let both = AzureSecret::parse(b"sas_token=sv=1&sig=hunter2\naccount_key=a2V5").expect_err("both");
        assert!(matches!(both, SecretError::Both { .. }), "{both:?}");
        refused(both, "sas_token");
    }

    #[test]
    fn a_misspelt_name_is_told_and_a_mark_at_the_beginning_is_not() {
        for (name, told) in [("AccountKey", true), ("account-key", true), ("hunter2", false)] {
            let error = AzureSecret::parse(format!("{name}=a2V5").as_bytes()).expect_err(name).to_string();
            assert_eq!(error.contains(name), told, "{error}");
        }
        // The end of a key that is broken into lines.
        let error = AzureSecret::parse(b"hunter==").expect_err("no name").to_string();
        assert!(!error.contains("hunter"), "{error}");
        assert!(AzureSecret::parse(b"\xef\xbb\xbfaccount_key=a2V5").is_ok());
    }

    #[test]
    fn errors_name_lines_and_never_values() {
        let text = |bytes: &[u8]| match SmbSecret::parse(bytes) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        for bytes in [
            &b"hunter2"[..],
            b"username=u\nHUNTER2=x",
            b"username=u\nusername=hunter2",
            b"username=hunter2\npassword=",
            b"username=u\npassword=hunter2\nkey=1",
            &[0xff],
        ] {
            let text = text(bytes);
            assert!(!text.to_lowercase().contains("hunter2"), "{text}");
            assert!(text.contains("credentials"), "{text}");
        }
        assert_eq!(SmbSecret::parse(b"a").expect_err("no line"), SecretError::Line { line: 1 });
        let shown = format!("{:?}", SmbSecret::parse(b"username=u\npassword=hunter2").expect("valid"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
