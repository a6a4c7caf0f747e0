//! The parts of an address of object storage: what the services allow in them, and nothing that a client would read as something
//! else. No error repeats a part.

use http::Uri;
use reqwest::Url;

use super::AddressError;

/// Longest name of a bucket, an account or a container, in bytes: what the services allow, and more.
const LONGEST: usize = 255;

/// The error of a part.
pub(super) fn wrong(part: &str, why: &'static str) -> AddressError {
    AddressError::Part { part: part.to_owned(), why }
}

/// That of a parameter that is not known. Its name is told where it looks like one.
pub(super) fn unknown(key: &str, why: &'static str) -> AddressError {
    let is_word = (1..=12).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_lowercase());
    wrong(if is_word { key } else { "a parameter" }, why)
}

/// Sets what may be set once.
pub(super) fn once(slot: &mut Option<String>, key: &str, value: String) -> Result<(), AddressError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong(key, "is given twice")),
    }
}

/// A bucket: what AWS allows, and what servers allow that speak its protocol.
pub(super) fn bucket(name: String) -> Result<String, AddressError> {
    let why = "has other characters than letters, digits, '-', '.' and '_', or too many";
    named(name, "the bucket", &['-', '.', '_'], why)
}

/// A storage account.
pub(super) fn account(name: String) -> Result<String, AddressError> {
    named(name, "the account", &['-'], "has other characters than letters, digits and '-', or too many")
}

/// A container; `$web` is one.
pub(super) fn container(name: String) -> Result<String, AddressError> {
    let why = "has other characters than letters, digits, '-' and '$', or too many";
    named(name, "the container", &['-', '$'], why)
}

/// The region that requests are signed for.
pub(super) fn region(name: String) -> Result<String, AddressError> {
    named(name, "region", &['-', '_'], "is empty, or has other characters than letters, digits, '-' and '_'")
}

fn named(name: String, part: &str, besides: &[char], why: &'static str) -> Result<String, AddressError> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || besides.contains(&c);
    let is_name = (1..=LONGEST).contains(&name.len())
        && name.chars().all(is_known)
        && !matches!(name.as_str(), "." | "..");
    if is_name { Ok(name) } else { Err(wrong(part, why)) }
}

/// What lies below a bucket or container. A `?` or `#` there is the beginning of something that was meant as no name.
pub(super) fn prefix(path: Vec<String>) -> Result<String, AddressError> {
    if path.iter().any(|part| part.contains(['?', '#'])) {
        return Err(wrong("the prefix", "has a '?' or '#' in it, which no address of a share has"));
    }
    Ok(path.join("/"))
}

/// The address of an HTTP server, without a slash at its end.
pub(super) fn server(value: &str) -> Result<String, AddressError> {
    let endpoint = |why| Err(wrong("endpoint", why));
    if value.contains('@') {
        return Err(AddressError::Secret);
    }
    let Some(rest) = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://")) else {
        return endpoint("is no address of a server: give http://HOST:PORT or https://HOST:PORT");
    };
    if rest.contains(['?', '#']) {
        return endpoint(
            "has a '?' or '#' in it: give http://HOST:PORT or https://HOST:PORT; a signature belongs into the file that [share] credentials names",
        );
    }
    let (authority, path) =
        rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if authority.is_empty() || !authority.chars().all(is_host) {
        return endpoint("names no host: give http://HOST:PORT or https://HOST:PORT");
    }
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    match authority.rsplit_once(':') {
        // The colons within an IPv6 address, which stands in brackets, are none before a port.
        Some((_, port)) if !port.contains(']') && !is_port(port) => {
            return endpoint("has no port from 1 to 65535 behind its host");
        }
        Some(_) | None => {}
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~');
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_plain);
    if !path.is_empty() && !path.split('/').all(is_part) {
        return endpoint(
            "has a path with other characters than letters, digits, '-', '.', '_' and '~', or a way up in it",
        );
    }
    let server = value.trim_end_matches('/');
    if is_url(server) { Ok(server.to_owned()) } else { endpoint("names no host that there can be") }
}

/// Whether each of the two parsers that a request goes through takes it.
pub(super) fn is_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.has_host()) && text.parse::<Uri>().is_ok()
}
