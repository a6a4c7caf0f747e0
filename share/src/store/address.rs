//! Addresses of shares: which backend, where, and nothing secret.
//!
//! ```text
//! /path            file:///path            a local folder, or a share that the system has mounted
//! smb://HOST[:PORT]/SHARE[/FOLDER]         SMB 2 and 3, in this process
//! s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]
//! azblob://ACCOUNT/CONTAINER[/PREFIX][?endpoint=URL]
//! ```
//!
//! An address is printed on screens, kept in configurations and logged. Credentials have a file of their own
//! ([`super::secret`]); an address that carries a user or a password is refused, and the refusal repeats neither.

use std::fmt;
use std::path::{Path, PathBuf};

/// The port of SMB over TCP (MS-SMB2 section 2.1).
pub const SMB_PORT: u16 = 445;

/// Where a share is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A folder of this machine: local, or mounted.
    Folder(PathBuf),
    /// A folder of an SMB share.
    Smb(SmbAddress),
    /// A bucket, or what lies below a prefix of it.
    S3(S3Address),
    /// A container of Azure Blob Storage, or what lies below a prefix of it.
    Azure(AzureAddress),
}

/// A folder of an SMB share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbAddress {
    /// Name or IP address of the server; an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the share.
    pub share: String,
    /// Folder below it, parts joined by `/`; empty for the share itself.
    pub folder: String,
}

/// A bucket, or what lies below a prefix of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Address {
    /// The bucket.
    pub bucket: String,
    /// Parts joined by `/`; empty for the whole bucket.
    pub prefix: String,
    /// `http://…` or `https://…` of a server that is not AWS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
}

/// A container of Azure Blob Storage, or what lies below a prefix of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureAddress {
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// Parts joined by `/`; empty for the whole container.
    pub prefix: String,
    /// `http://…` or `https://…` of a server that is not Azure.
    pub endpoint: Option<String>,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A scheme that no backend serves.
    #[error(
        "shares of the kind {scheme:?} are not known: file, smb, s3 and azblob are; or mount the share and name it by its path"
    )]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// Neither an absolute path nor an address.
    #[error("{text:?} names no share: give an absolute path, or an address such as {example}")]
    Form {
        /// What was given.
        text: String,
        /// One that would do.
        example: &'static str,
    },
    /// Something that looks like a user or a password. Not repeated.
    #[error(
        "the address of the share carries a user or a password, which logs and screens would show: put them into the file that [share] credentials names"
    )]
    Secret,
    /// A parameter that the scheme does not have, or one that makes no sense.
    #[error("{key}={value:?} in the share's address: {why}")]
    Parameter {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

const FILE_EXAMPLE: &str = "file:///srv/backups";
const SMB_EXAMPLE: &str = "smb://nas.example.org/backups/fleet";
const S3_EXAMPLE: &str = "s3://bucket/fleet?endpoint=https://s3.example.org";
const AZURE_EXAMPLE: &str = "azblob://account/container/fleet";
const REGION: &str = "us-east-1";

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// One that says what is wrong and what would be right, and repeats no secret.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return folder(text, text);
        };
        match scheme {
            "file" => {
                let form = || AddressError::Form { text: text.to_owned(), example: FILE_EXAMPLE };
                folder(&unescape(rest).ok_or_else(form)?, text)
            }
            "smb" => smb(text, rest),
            "s3" => s3(text, rest),
            "azblob" => azure(text, rest),
            _ => Err(AddressError::Scheme { scheme: scheme.to_owned() }),
        }
    }

    /// The folder of this machine, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Smb(_) | Self::S3(_) | Self::Azure(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Smb(address) => address.fmt(f),
            Self::S3(address) => address.fmt(f),
            Self::Azure(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for SmbAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, share, folder } = self;
        write!(f, "smb://{host}")?;
        if *port != SMB_PORT {
            write!(f, ":{port}")?;
        }
        write!(f, "/{share}{}{folder}", slash(folder))
    }
}

impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix, endpoint, region } = self;
        write!(f, "s3://{bucket}{}{prefix}", slash(prefix))?;
        let mut mark = '?';
        if let Some(endpoint) = endpoint {
            write!(f, "{mark}endpoint={endpoint}")?;
            mark = '&';
        }
        if region == REGION { Ok(()) } else { write!(f, "{mark}region={region}") }
    }
}

impl fmt::Display for AzureAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, container, prefix, endpoint } = self;
        write!(f, "azblob://{account}/{container}{}{prefix}", slash(prefix))?;
        endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, "?endpoint={endpoint}"))
    }
}

fn slash(rest: &str) -> &'static str {
    if rest.is_empty() { "" } else { "/" }
}

fn folder(path: &str, text: &str) -> Result<Address, AddressError> {
    if Path::new(path).is_absolute() {
        Ok(Address::Folder(PathBuf::from(path)))
    } else if text.contains('@') && text.contains("://") {
        Err(AddressError::Secret)
    } else {
        Err(AddressError::Form { text: text.to_owned(), example: FILE_EXAMPLE })
    }
}

/// Authority, path and query of an address, unescaped.
struct Parts {
    authority: String,
    /// Without empty parts, `.` or `..`.
    path: Vec<String>,
    query: Vec<(String, String)>,
}

fn split(text: &str, rest: &str, example: &'static str) -> Result<Parts, AddressError> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('@') {
        return Err(AddressError::Secret);
    }
    let form = || AddressError::Form { text: text.to_owned(), example };
    let mut parts = place.split('/');
    let authority = parts.next().and_then(unescape).filter(|name| !name.is_empty()).ok_or_else(form)?;
    let path: Option<Vec<String>> = parts
        .filter(|part| !part.is_empty())
        .map(|part| unescape(part).filter(|part| is_plain(part)))
        .collect();
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((unescape(key)?, unescape(value)?))
    };
    let query: Option<Vec<(String, String)>> =
        query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    Ok(Parts { authority, path: path.ok_or_else(form)?, query: query.ok_or_else(form)? })
}

/// One part of a path: no way up, no separator of any system, no control character.
fn is_plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && !part.contains(['/', '\\', '\0'])
        && !part.chars().any(char::is_control)
}

fn smb(text: &str, rest: &str) -> Result<Address, AddressError> {
    let form = || AddressError::Form { text: text.to_owned(), example: SMB_EXAMPLE };
    // `smb://DOMAIN;user@host` is the form of other clients.
    if rest.split('/').next().is_some_and(|host| host.contains(';')) {
        return Err(AddressError::Secret);
    }
    let parts = split(text, rest, SMB_EXAMPLE)?;
    no_parameters(parts.query)?;
    let (host, port) = match parts.authority.rsplit_once(':') {
        // An IPv6 address stands in brackets, with or without a port behind them.
        Some((host, port)) if !port.contains(']') => {
            (host.to_owned(), port.parse().ok().filter(|port| *port != 0).ok_or_else(form)?)
        }
        Some(_) | None => (parts.authority, SMB_PORT),
    };
    let mut path = parts.path.into_iter();
    let share = path.next().filter(|_| !host.is_empty()).ok_or_else(form)?;
    Ok(Address::Smb(SmbAddress { host, port, share, folder: path.collect::<Vec<_>>().join("/") }))
}

fn s3(text: &str, rest: &str) -> Result<Address, AddressError> {
    let parts = split(text, rest, S3_EXAMPLE)?;
    let (mut endpoint, mut region) = (None, REGION.to_owned());
    for (key, value) in parts.query {
        match key.as_str() {
            "endpoint" => endpoint = Some(server(value)?),
            "region" if !value.is_empty() => region = value,
            _ => return Err(unknown(key, value, "an s3 address takes endpoint and region")),
        }
    }
    Ok(Address::S3(S3Address { bucket: parts.authority, prefix: parts.path.join("/"), endpoint, region }))
}

fn azure(text: &str, rest: &str) -> Result<Address, AddressError> {
    let parts = split(text, rest, AZURE_EXAMPLE)?;
    let mut endpoint = None;
    for (key, value) in parts.query {
        match key.as_str() {
            "endpoint" => endpoint = Some(server(value)?),
            _ => return Err(unknown(key, value, "an azblob address takes endpoint")),
        }
    }
    let mut path = parts.path.into_iter();
    let form = || AddressError::Form { text: text.to_owned(), example: AZURE_EXAMPLE };
    let container = path.next().ok_or_else(form)?;
    let prefix = path.collect::<Vec<_>>().join("/");
    Ok(Address::Azure(AzureAddress { account: parts.authority, container, prefix, endpoint }))
}

/// The address of an HTTP server, without a slash at its end.
fn server(value: String) -> Result<String, AddressError> {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    match rest {
        Some(rest) if rest.contains('@') => Err(AddressError::Secret),
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#']) => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        Some(_) | None => {
            Err(unknown("endpoint".to_owned(), value, "give http://HOST:PORT or https://HOST:PORT"))
        }
    }
}

fn no_parameters(query: Vec<(String, String)>) -> Result<(), AddressError> {
    query
        .into_iter()
        .next()
        .map_or(Ok(()), |(key, value)| Err(unknown(key, value, "this address takes no parameters")))
}

/// A parameter that is not understood may be a secret (`?sig=…`): its value is not repeated unless it is our own key's.
fn unknown(key: String, value: String, why: &'static str) -> AddressError {
    match key.as_str() {
        "endpoint" | "region" => AddressError::Parameter { key, value, why },
        _ => AddressError::Parameter { key, value: "…".to_owned(), why },
    }
}

/// Percent-decoding (RFC 3986 section 2.1).
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError, SmbAddress};
    use std::path::PathBuf;

    #[test]
    fn folders_are_absolute_paths_or_file_addresses() {
        for (text, path) in
            [("/srv/a b", "/srv/a b"), ("file:///srv/a%20b", "/srv/a b"), ("/a/../b", "/a/../b")]
        {
            assert_eq!(Address::parse(text), Ok(Address::Folder(PathBuf::from(path))));
        }
        for text in ["", "srv", "./srv", "file://host/srv", "file:///a%2", "file:///a%zz"] {
            assert!(matches!(Address::parse(text), Err(AddressError::Form { .. })), "{text}");
        }
    }

    #[test]
    fn addresses_come_back_as_they_were() {
        for text in [
            "smb://nas.example.org/backups",
            "smb://nas.example.org:1445/backups/fleet/one",
            "smb://[::1]/backups",
            "smb://[::1]:1445/backups",
            "s3://bucket",
            "s3://bucket/a/b?endpoint=http://127.0.0.1:8333",
            "s3://bucket?endpoint=https://s3.example.org&region=eu-1",
            "s3://bucket?region=eu-1",
            "azblob://account/container",
            "azblob://account/container/p/q?endpoint=http://127.0.0.1:10000/account",
        ] {
            let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(
            Address::parse("smb://nas/backups//a/"),
            Ok(Address::Smb(SmbAddress {
                host: "nas".to_owned(),
                port: 445,
                share: "backups".to_owned(),
                folder: "a".to_owned()
            }))
        );
    }

    #[test]
    fn what_is_no_address_is_told_with_an_example() {
        for text in [
            "smb://",
            "smb://nas",
            "smb://nas/",
            "smb://nas:0/a",
            "smb://nas:x/a",
            "smb:///a",
            "smb://nas/a/../b",
            "smb://nas/a%5cb",
            "s3://",
            "s3:///x",
            "azblob://account",
            "azblob://account/",
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains("such as "), "{text}: {error}");
        }
        assert!(
            matches!(Address::parse("gs://bucket"), Err(AddressError::Scheme { scheme }) if scheme == "gs")
        );
        for text in [
            "s3://b?endpoint=s3.example.org",
            "s3://b?endpoint=https://",
            "s3://b?color=red",
            "smb://n/a?vers=3",
        ] {
            assert!(matches!(Address::parse(text), Err(AddressError::Parameter { .. })), "{text}");
        }
    }

    #[test]
    fn secrets_in_an_address_are_refused_and_not_repeated() {
        for text in [
            "smb://backup:hunter2@nas/backups",
            "smb://CORP;backup:hunter2@nas/backups",
            "s3://AKIA:hunter2@bucket",
            "azblob://account:hunter2@host/container",
            "file://user:hunter2@host/srv",
            "s3://bucket?endpoint=https://key:hunter2@s3.example.org",
            "azblob://account/container?sig=hunter2",
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
