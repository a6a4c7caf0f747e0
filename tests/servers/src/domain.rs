//! A domain controller of Active Directory: Samba, with accounts and groups of its domain, and a share with Windows ACLs.
//! Needs root.
//!
//! Its parts find each other below `/run/samba`, which no configuration moves: each server has a namespace with an empty one.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Server, free_address, run, wait_for};

/// The domain as NTLM names it, and as principals do.
const DOMAIN: &str = "CORP";
const REALM: &str = "corp.example.org";

/// Who sets rights.
const ADMINISTRATOR: &str = "Administrator";

/// Accounts, their groups, and their numbers on disk.
const ACCOUNTS: [(&str, Option<&str>, u32); 8] = [
    ("agent", Some("muster-agents"), 71_001),
    ("neighbour", Some("muster-agents"), 71_002),
    ("coordinator", Some("muster-coordinators"), 71_003),
    ("standby", Some("muster-coordinators"), 71_004),
    ("pruner", Some("muster-pruners"), 71_005),
    ("stranger", None, 71_006),
    ("disabled", Some("muster-agents"), 71_007),
    ("former", Some("muster-agents"), 71_008),
];

/// Groups, and their numbers on disk.
const GROUPS: [(&str, u32); 4] = [
    ("muster-agents", 72_001),
    ("muster-coordinators", 72_002),
    ("muster-pruners", 72_003),
    ("muster-readers", 72_004),
];

/// Groups within a group.
const WITHIN: [(&str, &str); 2] =
    [("muster-readers", "muster-coordinators"), ("muster-readers", "muster-pruners")];

/// A running domain controller with the share `backups`.
///
/// Its accounts: `agent`, `neighbour` (group `muster-agents`), `coordinator`, `standby` (`muster-coordinators`), `pruner`
/// (`muster-pruners`), `stranger` of no group; `disabled`, and `former`, whose account has expired. The groups of coordinators
/// and pruners are in `muster-readers`.
#[derive(Debug)]
pub struct Domain {
    // Before the folder, which it writes to.
    _server: Server,
    at: SocketAddr,
    folder: TempDir,
}

impl Domain {
    /// Makes a domain, and starts its controller.
    ///
    /// # Panics
    /// When one of them fails.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path();
        // Sessions act as their users, who have to get at the share.
        set_mode(root, 0o711);
        let at = free_address();
        provision(root, at);
        for name in ["pid", "ncalrpc", "cache", "backups"] {
            fs::create_dir_all(root.join(name)).expect("a folder");
        }
        set_mode(&root.join("backups"), 0o755);
        fs::write(root.join("smb.conf"), configuration(root, at)).expect("written");
        for (name, number) in GROUPS {
            let gid = format!("--gid-number={number}");
            run(&mut tool(root, &["group", "add", name, &format!("--nis-domain={DOMAIN}"), &gid]));
        }
        for (name, group, number) in ACCOUNTS {
            let uid = format!("--uid-number={number}");
            run(&mut tool(root, &["user", "create", name, &password(name), &uid]));
            if let Some(group) = group {
                run(&mut tool(root, &["group", "addmembers", group, name]));
            }
        }
        for (group, member) in WITHIN {
            run(&mut tool(root, &["group", "addmembers", group, member]));
        }
        run(&mut tool(root, &["user", "disable", "disabled"]));
        run(&mut tool(root, &["user", "setexpiry", "former", "--days=0"]));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]);
        command
            .arg("mkdir -p /run/samba && mount -t tmpfs tmpfs /run/samba && exec samba \"$@\"")
            .arg("samba");
        command.arg("--configfile").arg(root.join("smb.conf")).args(["--foreground", "--no-process-group"]);
        let server = Server::start_family("samba", command, root, at);
        let this = Self { _server: server, at, folder };
        this.wait_for_sessions();
        this
    }

    /// It listens before its parts have found each other.
    fn wait_for_sessions(&self) {
        wait_for("sessions of the domain", || {
            self.smbcacls("").output().is_ok_and(|done| done.status.success())
        });
    }

    /// `smb://host:port/backups/FOLDER`; an empty folder for the share itself.
    #[must_use]
    pub fn url(&self, folder: &str) -> String {
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("smb://{}/backups{slash}{folder}", self.at)
    }

    /// The credentials file of an account, in each of the spellings that there are: `DOMAIN\user`, the domain apart, the
    /// realm in its place, and the principal name with realm and with domain.
    #[must_use]
    pub fn spellings(account: &str) -> [String; 5] {
        let password = password(account);
        let realm = REALM.to_uppercase();
        [
            format!("username={DOMAIN}\\{account}\npassword={password}\n"),
            format!("username={account}\npassword={password}\ndomain={DOMAIN}\n"),
            format!("username={account}\npassword={password}\ndomain={REALM}\n"),
            format!("username={account}@{realm}\npassword={password}\n"),
            format!("username={account}@{REALM}\npassword={password}\n"),
        ]
    }

    /// The credentials file of an account.
    #[must_use]
    pub fn credentials(account: &str) -> String {
        let [first, ..] = Self::spellings(account);
        first
    }

    /// The SID of an account or group, by which ACLs name it.
    ///
    /// # Panics
    /// When the domain does not know it.
    #[must_use]
    pub fn sid(&self, name: &str) -> String {
        let kind = if GROUPS.iter().any(|(group, _)| *group == name) { "group" } else { "user" };
        let mut command = tool(self.folder.path(), &[kind, "show", name, "--attributes=objectSid"]);
        let told = command.output().expect("samba-tool").stdout;
        let told = String::from_utf8_lossy(&told).into_owned();
        let sid = told.lines().find_map(|line| line.strip_prefix("objectSid: "));
        sid.unwrap_or_else(|| panic!("{name}: {told}")).trim().to_owned()
    }

    /// Gives an account another password.
    ///
    /// # Panics
    /// When the domain refuses.
    pub fn set_password(&self, account: &str, password: &str) {
        let new = format!("--newpassword={password}");
        run(&mut tool(self.folder.path(), &["user", "setpassword", account, &new]));
    }

    /// Takes an account out of its group.
    ///
    /// # Panics
    /// When the domain refuses.
    pub fn leave(&self, account: &str, group: &str) {
        run(&mut tool(self.folder.path(), &["group", "removemembers", group, account]));
    }

    /// The share's folder on disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.folder.path().join("backups")
    }

    /// Gives a folder on disk to an account and a group.
    ///
    /// # Panics
    /// When it is not there.
    pub fn give(&self, folder: &str, owner: Option<&str>, group: &str, mode: u32) {
        let uid = owner.map_or(0, |owner| number(ACCOUNTS.iter().map(|(name, _, id)| (*name, *id)), owner));
        let gid = number(GROUPS.into_iter(), group);
        let folder = self.disk().join(folder);
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).expect("given");
        set_mode(&folder, mode);
    }

    /// Sets the ACL of a folder of the share, as the domain's administrator. Its ACEs are in smbcacls' own form.
    ///
    /// # Panics
    /// When smbcacls fails.
    pub fn set_acl(&self, folder: &str, entries: &[String]) {
        run(self.smbcacls(folder).args(["--set", &entries.join(",")]));
    }

    fn smbcacls(&self, path: &str) -> Command {
        let mut command = Command::new("smbcacls");
        command.arg("--configfile").arg(self.folder.path().join("smb.conf"));
        command.arg("--use-kerberos=off").arg(format!("--user={DOMAIN}\\{ADMINISTRATOR}"));
        command.arg(format!("--password={}", password(ADMINISTRATOR)));
        command.arg(format!("//{}/backups", self.at.ip())).arg(path);
        command
    }
}

/// Long enough and of enough kinds of characters for a domain.
fn password(account: &str) -> String {
    format!("pass = wörd # {account} 1")
}

fn number<'a>(mut known: impl Iterator<Item = (&'a str, u32)>, name: &str) -> u32 {
    known.find(|(known, _)| *known == name).map(|(_, number)| number).expect("a name of the domain")
}

fn set_mode(folder: &Path, mode: u32) {
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("permissions");
}

/// A new domain in this folder: its database, and nothing outside.
fn provision(root: &Path, at: SocketAddr) {
    // What a system's own configuration says is no matter of this domain.
    let empty = root.join("empty.conf");
    fs::write(&empty, "[global]\n").expect("written");
    let mut command = Command::new("samba-tool");
    command.args(["domain", "provision", "--server-role=dc", "--dns-backend=NONE", "--use-rfc2307"]);
    command.arg(format!("--domain={DOMAIN}")).arg(format!("--realm={}", REALM.to_uppercase()));
    command.arg("--host-name=dc1").arg(format!("--host-ip={}", at.ip()));
    command.arg(format!("--adminpass={}", password(ADMINISTRATOR)));
    command.arg(format!("--targetdir={}", root.display())).arg("--configfile").arg(&empty);
    run(&mut command);
}

fn tool(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("samba-tool");
    command.args(words).arg("--configfile").arg(root.join("smb.conf"));
    command
}

fn configuration(root: &Path, at: SocketAddr) -> String {
    let (root, address, port) = (root.display(), at.ip(), at.port());
    format!(
        "[global]
netbios name = DC1
workgroup = {DOMAIN}
realm = {}
server role = active directory domain controller
server services = s3fs, winbindd
smb ports = {port} 445
interfaces = {address}/8
bind interfaces only = yes
disable netbios = yes
private dir = {root}/private
lock directory = {root}
state directory = {root}/state
cache directory = {root}/cache
pid directory = {root}/pid
ncalrpc dir = {root}/ncalrpc
log file = {root}/log.samba
map to guest = never
server min protocol = SMB2_10
server signing = mandatory
old password allowed period = 0
load printers = no
disable spoolss = yes
idmap_ldb:use rfc2307 = yes

[backups]
path = {root}/backups
read only = no
acl_xattr:ignore system acls = yes
",
        REALM.to_uppercase()
    )
}
