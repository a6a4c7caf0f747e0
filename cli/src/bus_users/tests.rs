//! The list of users, what is printed of it, and its files.

use std::fs;
use std::path::Path;

use muster_bus::UserKey;

use super::files::accounts_file;
use super::{ACCOUNTS, BusUser, BusUsers, PublicNkey, USERS, UserKind, accounts, change, load};

/// A configuration of a server elsewhere; what it says of accounts is what is printed here.
const EXAMPLE: &str = include_str!("../../../deploy/nats/prod.conf");

fn user(name: &str, kind: UserKind, number: u8) -> BusUser {
    let nkey = PublicNkey::of(&UserKey::from_random(&[number; 32]));
    BusUser { name: name.parse().expect("a name"), kind, nkey }
}

fn users() -> BusUsers {
    let mut users = BusUsers::new("prod".parse().expect("a name"));
    users.add(user("coordinator", UserKind::Coordinator, 1));
    users.add(user("secrets", UserKind::Agent, 2));
    users.add(user("orders", UserKind::Agent, 3));
    users.add(user("operator", UserKind::Operator, 4));
    users.add(user("viewer", UserKind::Viewer, 5));
    users.add(user("trigger", UserKind::Trigger, 6));
    users
}

/// A folder that keeps these users.
fn folder(users: &BusUsers) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::write(dir.path().join(USERS), users.to_toml_string()).expect("written");
    dir
}

fn accounts_of(dir: &Path) -> String {
    fs::read_to_string(dir.join(ACCOUNTS)).expect("printed")
}

#[test]
fn the_example_is_what_is_printed() {
    let users = users();
    let mut printed = accounts::print(&users);
    for user in &users.users {
        let word = match user.kind {
            UserKind::Agent => format!("NKEY_AGENT_{}", user.name),
            UserKind::Coordinator | UserKind::Operator | UserKind::Viewer | UserKind::Trigger => {
                format!("NKEY_{}", user.name)
            }
        };
        printed = printed.replace(user.nkey.as_str(), &word.to_uppercase());
    }
    let accounts = &EXAMPLE[EXAMPLE.find("\naccounts {").expect("it has accounts") + 1..];
    assert_eq!(accounts, printed);
}

#[test]
fn the_list_comes_back_and_what_is_wrong_is_named() {
    let users = users();
    let text = users.to_toml_string();
    let parse = |text: &str| BusUsers::parse(Path::new(USERS), text);
    assert_eq!(parse(&text).expect("valid"), users);
    let seed = UserKey::from_random(&[2; 32]).seed();
    let second = user("secrets", UserKind::Agent, 2).nkey;
    for (from, to, part) in [
        ("version = 1", "version = 2", "version"),
        ("kind = \"viewer\"", "kind = \"admin\"", "admin"),
        ("name = \"orders\"", "name = \"a.>\"", "a.>"),
        ("name = \"orders\"", "nome = \"orders\"", "nome"),
        (second.as_str(), seed.as_str(), "public nkey"),
        (second.as_str(), user("orders", UserKind::Agent, 3).nkey.as_str(), "twice"),
    ] {
        let error = parse(&text.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(part) && error.contains(USERS), "{to}: {error}");
        assert!(!error.contains(seed.as_str()), "a seed is not repeated: {error}");
    }
}

#[test]
fn a_change_touches_one_user_and_says_whether_it_did() {
    let dir = folder(&users());
    let dir = dir.path();
    let dns = user("dns", UserKind::Agent, 9);
    assert!(change(dir, |users| users.add(dns.clone())).expect("added"));
    assert!(!change(dir, |users| users.add(dns.clone())).expect("again"));
    let mut want = users();
    want.add(dns.clone());
    assert_eq!(load(dir).expect("readable"), Some(want));
    assert!(accounts_of(dir).contains(dns.nkey.as_str()));

    // A new key in place of the old one; an operator of the same name is somebody else.
    let (new, ada) = (user("dns", UserKind::Agent, 10), user("dns", UserKind::Operator, 11));
    let replaced = change(dir, |users| {
        users.add(new.clone());
        users.add(ada.clone());
        users.remove(&dns.name, dns.kind, Some(&new.nkey));
    });
    assert!(replaced.expect("replaced"));
    let text = accounts_of(dir);
    assert!(!text.contains(dns.nkey.as_str()), "{text}");
    assert!(text.contains(new.nkey.as_str()) && text.contains(ada.nkey.as_str()), "{text}");
    assert!(change(dir, |users| users.remove(&new.name, new.kind, None)).expect("removed"));
    assert!(change(dir, |users| users.remove_key(&ada.nkey)).expect("removed"));
    assert!(!change(dir, |users| users.remove(&new.name, new.kind, None)).expect("again"));
    assert_eq!(load(dir).expect("readable"), Some(users()));
    assert_eq!(fs::read_dir(dir).expect("a folder").count(), 2, "nothing else lies there");

    let empty = tempfile::tempdir().expect("temporary folder");
    assert!(!change(empty.path(), |users| users.add(dns)).expect("it keeps no users"));
    assert_eq!(fs::read_dir(empty.path()).expect("a folder").count(), 0);
}

#[test]
fn accounts_that_a_crash_left_old_are_printed_anew() {
    let dir = folder(&users());
    let dir = dir.path();
    fs::write(dir.join(ACCOUNTS), "accounts {").expect("written");
    assert!(change(dir, |_| {}).expect("settled"));
    assert_eq!(accounts_of(dir), accounts_file(&users()));
    assert!(!change(dir, |_| {}).expect("settled"));
}

#[test]
fn users_that_are_added_at_once_are_all_there() {
    let dir = folder(&users());
    let dir = dir.path();
    std::thread::scope(|scope| {
        for number in 20..36 {
            scope.spawn(move || {
                let one = user(&format!("s{number}"), UserKind::Agent, number);
                assert!(change(dir, |users| users.add(one)).expect("added"));
            });
        }
    });
    let users = load(dir).expect("readable").expect("kept");
    assert_eq!(users.of_kind(UserKind::Agent).count(), 18);
}
