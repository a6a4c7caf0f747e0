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
    #[error("line {line} of the share's credentials: {name:?} is {what}; {kind} takes {takes}")]
    Name {
        /// Its number, from 1.
        line: usize,
        /// The name.
        name: String,
        /// `not known` or `there twice`.
        what: &'static str,
        /// The kind of share.
        kind: &'static str,
        /// The names that it takes.
        takes: &'static str,
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
        let key = values.need("access_key_id")?.expose().to_owned();
        Ok(Self { key, secret: values.need("secret_access_key")?, token: values.take("session_token") })
    }

    /// Those of the variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, if the first two are set.
    #[must_use]
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let hidden = |name| variable(name).filter(|value| !value.is_empty()).map(|value| Hidden::new(&value));
        Some(Self {
            key: hidden("AWS_ACCESS_KEY_ID")?.expose().to_owned(),
            secret: hidden("AWS_SECRET_ACCESS_KEY")?,
            token: hidden("AWS_SESSION_TOKEN"),
        })
    }
}

impl AzureSecret {
    /// Reads them.
    ///
    /// # Errors
    /// One that names line and key.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretError> {
        let mut values = Values::read(bytes, &AZURE)?;
        if let Some(sas) = values.take("sas_token") {
            return Ok(Self::Sas(sas));
        }
        values.need("account_key").map(Self::Key)
    }

    /// That of the variable `AZURE_STORAGE_SAS_TOKEN` or `AZURE_STORAGE_ACCOUNT_KEY`, if one is set.
    #[must_use]
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let hidden = |name| variable(name).filter(|value| !value.is_empty()).map(|value| Hidden::new(&value));
        let sas = hidden("AZURE_STORAGE_SAS_TOKEN").map(Self::Sas);
        sas.or_else(|| hidden("AZURE_STORAGE_ACCOUNT_KEY").map(Self::Key))
    }
}

struct Values {
    kind: &'static Kind,
    found: Vec<(&'static str, Hidden)>,
}

impl Values {
    fn read(bytes: &[u8], kind: &'static Kind) -> Result<Self, SecretError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NoText)?;
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
                // What stands before the first `=` of a line that is no such line may be part of a secret.
                name: name.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(20).collect(),
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
        let key = AzureSecret::parse(b"account_key=a2V5==").expect("valid");
        assert!(matches!(key, AzureSecret::Key(key) if key.expose() == "a2V5=="));
        let sas = AzureSecret::parse(b"sas_token=sv=1&sig=2").expect("valid");
        assert!(matches!(sas, AzureSecret::Sas(sas) if sas.expose() == "sv=1&sig=2"));
    }

    #[test]
    fn variables_are_those_of_other_tools() {
        let set =
            |names: &'static [&str]| move |name: &str| names.contains(&name).then(|| format!("the {name}"));
        let whole =
            S3Secret::of_variables(set(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])).expect("both");
        assert_eq!((whole.key.as_str(), whole.token), ("the AWS_ACCESS_KEY_ID", None));
        assert_eq!(S3Secret::of_variables(set(&["AWS_ACCESS_KEY_ID"])), None);
        assert_eq!(S3Secret::of_variables(|_| Some(String::new())), None);
        let key = AzureSecret::of_variables(set(&["AZURE_STORAGE_ACCOUNT_KEY"]));
        assert!(matches!(key, Some(AzureSecret::Key(_))));
        assert_eq!(AzureSecret::of_variables(set(&[])), None);
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
