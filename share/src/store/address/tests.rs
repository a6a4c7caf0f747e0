//! What is an address, and what is refused and not repeated.

use std::path::PathBuf;

use super::{Address, AddressError, SmbAddress};

#[test]
fn folders_are_absolute_paths_or_file_addresses() {
    for (text, path) in [("/srv/a b", "/srv/a b"), ("file:///srv/a%20b", "/srv/a b"), ("/a/../b", "/a/../b")]
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
    assert!(matches!(Address::parse("gs://bucket"), Err(AddressError::Scheme { scheme }) if scheme == "gs"));
    for text in
        ["s3://b?endpoint=s3.example.org", "s3://b?endpoint=https://", "s3://b?color=red", "smb://n/a?vers=3"]
    {
        assert!(matches!(Address::parse(text), Err(AddressError::Part { .. })), "{text}");
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

/// Each of these made a panic in the HTTP client, or an address that means something else to each who reads it.
#[test]
fn parts_that_no_service_has_are_refused_by_their_name() {
    for (text, part) in [
        ("s3://b?endpoint=http://127.0.0.1:99999/", "endpoint"),
        ("s3://b?endpoint=http://127.0.0.1:0", "endpoint"),
        ("s3://b?endpoint=http://h:", "endpoint"),
        ("s3://b?endpoint=http://:80", "endpoint"),
        ("s3://b?endpoint=http:///h", "endpoint"),
        ("s3://b?endpoint=http://1.2.3.999", "endpoint"),
        ("s3://b?endpoint=http://[::1", "endpoint"),
        ("s3://b?endpoint=http://xn--a", "endpoint"),
        ("s3://b/p?endpoint=http://h h:1", "endpoint"),
        ("s3://b/p?endpoint=http://h%09", "endpoint"),
        ("s3://b?endpoint=http://h/a/../b", "endpoint"),
        ("s3://b?endpoint=http://h//b", "endpoint"),
        ("s3://b?endpoint=http://h/%252e%252e", "endpoint"),
        ("s3://b?endpoint=http://h\\b", "endpoint"),
        ("s3://b?endpoint=ftp://h", "endpoint"),
        ("s3://b?endpoint=http://h&endpoint=http://g", "endpoint is given twice"),
        ("s3://b?region=a%0d%0aX:y", "region"),
        ("s3://b?region=", "region"),
        ("s3://b?region=a&region=a", "region is given twice"),
        ("s3://b p/ü", "bucket"),
        ("s3://b:1/p", "bucket"),
        ("s3://xn--a", "bucket"),
        ("s3://../p", "bucket"),
        ("s3://b/p%3fq", "prefix"),
        ("azblob://a b/c", "account"),
        ("azblob://a.b/c", "account"),
        ("azblob://a/c d", "container"),
        ("azblob://a/c?endpoint=http://h:65536", "endpoint"),
    ] {
        let error = Address::parse(text).expect_err(text);
        assert!(matches!(error, AddressError::Part { .. }), "{text}: {error:?}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn nothing_that_may_be_a_secret_is_repeated() {
    for text in [
        "azblob://acc/c?endpoint=http://127.0.0.1:1/acc?sig=TopSecret",
        "azblob://acc/c?TopSecret=1",
        "azblob://acc/c?TopSecret",
        "s3://b/p?endpoint=http://h/?X=TopSecret",
        "s3://b?endpoint=https://h%23TopSecret",
        "s3://b?endpoint=https://h#TopSecret",
        "s3://b?endpoint=TopSecret",
        "s3://b?region=eu#TopSecret",
        "s3://b/p#TopSecret",
        "s3://b#TopSecret",
        "s3://b/p%23TopSecret",
        "s3://AK:TopSecret/b",
        "//u:TopSecret@host/share",
        "\\\\u:TopSecret@host\\share",
        "s3:/AK:TopSecret@b",
        "s3:AK:TopSecret",
        "smb:/u:TopSecret@h/s",
        "AK:TopSecret://x",
        "TopSecret://x",
        "TopSecret",
        "smb://h:TopSecret/s",
        "smb://h/s?TopSecret=1",
    ] {
        let error = Address::parse(text).expect_err(text);
        assert!(!format!("{error:?} {error}").contains("TopSecret"), "{text}: {error:?}");
    }
}
