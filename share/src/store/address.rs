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
//! ([`super::secret`]); an address that carries a user or a password is refused, and no refusal repeats what it refuses.

mod part;

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

/// Why a text is no address. Nothing of the text is repeated but what can be no secret: a key that is pasted into the wrong place
/// would stand on screens and in logs.
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
    #[error("the share's address names no share: give an absolute path, or an address such as {example}")]
    Form {
        /// One that would do.
        example: &'static str,
    },
    /// Something that looks like a user or a password. Not repeated.
    #[error(
        "the address of the share carries a user or a password, which logs and screens would show: put them into the file that [share] credentials names"
    )]
    Secret,
    /// A part that the scheme does not have, or one that makes no sense.
    #[error("the share's address: {part} {why}")]
    Part {
        /// Which.
        part: String,
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
            return if is_path(text) { folder(text) } else { Err(no_path(text)) };
        };
        match scheme {
            "file" => folder(&unescape(rest).ok_or(AddressError::Form { example: FILE_EXAMPLE })?),
            "smb" => smb(rest),
            "s3" => s3(rest),
            "azblob" => azure(rest),
            _ if is_scheme(scheme) => Err(AddressError::Scheme { scheme: scheme.to_owned() }),
            _ => Err(no_path(text)),
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

/// Whether this is meant as a path of this machine, absolute or not. `s3:/bucket` is a slip of the hand, and so is `//user@host/share`:
/// taken for a path, it would be repeated as one.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let first = text.trim_start_matches('/').split('/').next().unwrap_or_default();
    let is_address = match text.split_once(':') {
        Some((scheme, rest)) => {
            is_scheme(scheme) && (rest.starts_with('/') || ["file", "smb", "s3", "azblob"].contains(&scheme))
        }
        None => false,
    };
    let has_user = text.starts_with("//") && first.contains('@');
    !(is_address || text.starts_with("\\\\") || has_user)
}

/// Two letters at least (RFC 3986 section 3.1), and few enough to be no secret.
fn is_scheme(text: &str) -> bool {
    (2..=12).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
}

fn no_path(text: &str) -> AddressError {
    if text.contains('@') { AddressError::Secret } else { AddressError::Form { example: S3_EXAMPLE } }
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

fn folder(path: &str) -> Result<Address, AddressError> {
    if Path::new(path).is_absolute() && is_path(path) {
        Ok(Address::Folder(PathBuf::from(path)))
    } else if path.contains('@') {
        Err(AddressError::Secret)
    } else {
        Err(AddressError::Form { example: FILE_EXAMPLE })
    }
}

/// Authority, path and query of an address, unescaped.
struct Parts {
    authority: String,
    /// Without empty parts, `.` or `..`.
    path: Vec<String>,
    query: Vec<(String, String)>,
}

fn split(rest: &str, example: &'static str) -> Result<Parts, AddressError> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('@') {
        return Err(AddressError::Secret);
    }
    let form = || AddressError::Form { example };
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

fn smb(rest: &str) -> Result<Address, AddressError> {
    let form = || AddressError::Form { example: SMB_EXAMPLE };
    // `smb://DOMAIN;user@host` is the form of other clients.
    if rest.split('/').next().is_some_and(|host| host.contains(';')) {
        return Err(AddressError::Secret);
    }
    let parts = split(rest, SMB_EXAMPLE)?;
    if let Some((key, _)) = parts.query.first() {
        return Err(part::unknown(key, "is not known: an smb address takes no parameters"));
    }
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

fn s3(rest: &str) -> Result<Address, AddressError> {
    let parts = split(rest, S3_EXAMPLE)?;
    let (mut endpoint, mut region) = (None, None);
    for (key, value) in parts.query {
        match key.as_str() {
            "endpoint" => part::once(&mut endpoint, &key, part::server(&value)?)?,
            "region" => part::once(&mut region, &key, part::region(value)?)?,
            _ => return Err(part::unknown(&key, "is not known: an s3 address takes endpoint and region")),
        }
    }
    let region = region.unwrap_or_else(|| REGION.to_owned());
    let (bucket, prefix) = (part::bucket(parts.authority)?, part::prefix(parts.path)?);
    if endpoint.is_none() && !part::is_url(&format!("https://{bucket}.s3.{region}.amazonaws.com")) {
        return Err(part::wrong("the bucket", "makes no name of a server, which AWS puts it into"));
    }
    Ok(Address::S3(S3Address { bucket, prefix, endpoint, region }))
}

fn azure(rest: &str) -> Result<Address, AddressError> {
    let parts = split(rest, AZURE_EXAMPLE)?;
    let mut endpoint = None;
    for (key, value) in parts.query {
        match key.as_str() {
            "endpoint" => part::once(&mut endpoint, &key, part::server(&value)?)?,
            _ => return Err(part::unknown(&key, "is not known: an azblob address takes endpoint")),
        }
    }
    let mut path = parts.path.into_iter();
    let container = path.next().ok_or(AddressError::Form { example: AZURE_EXAMPLE })?;
    let (account, container) = (part::account(parts.authority)?, part::container(container)?);
    Ok(Address::Azure(AzureAddress { account, container, prefix: part::prefix(path.collect())?, endpoint }))
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
mod tests;
