//! Samba: SMB shares with the accounts of a domain's name. Needs root: each session acts as a user of the system.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Server, free_address, run};

/// The server's domain.
const DOMAIN: &str = "CORP";

/// Accounts, the users of the system that they are, and passwords as people may have them. Coordinator and pruner have
/// the same main group.
const ACCOUNTS: [(&str, &str, &str); 6] = [
    ("agent", "backup", "pass = wörd, ångström"),
    ("neighbour", "news", "neighbour"),
    ("coordinator", "sync", "coordinator"),
    ("pruner", "_apt", "pruner"),
    ("disabled", "games", "disabled"),
    ("admin", "root", "admin"),
];

/// A name of the agent's account as a principal.
const PRINCIPAL: &str = "backup@corp.example.org";

/// A running smbd with the shares `backups`, `readonly` and `encrypted` (one folder), `closed` (to everybody), `small`
/// (a folder that [`Samba::limit`] limits), `guarded` (Windows ACLs), `capitals` and `lower` (all names become so). All of them
/// ignore case.
#[derive(Debug)]
pub struct Samba {
    server: Server,
    at: SocketAddr,
    limited: bool,
    folder: TempDir,
}

impl Samba {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path();
        // Sessions act as their users, who have to get at the shares.
        set_mode(root, 0o711);
        for name in ["private", "lock", "state", "cache", "pid", "ncalrpc"] {
            fs::create_dir(root.join(name)).expect("a folder");
        }
        for name in ["backups", "small", "guarded", "capitals", "lower"] {
            fs::create_dir(root.join(name)).expect("a folder");
            set_mode(&root.join(name), 0o777);
        }
        let at = free_address();
        fs::write(root.join("smb.conf"), configuration(root, at)).expect("written");
        fs::write(root.join("users.map"), format!("{} = {PRINCIPAL}\n", user("agent"))).expect("written");
        for (_, user, password) in ACCOUNTS {
            make_account(root, user, password);
        }
        run(Command::new("pdbedit").arg("-s").arg(root.join("smb.conf")).args([
            "--modify",
            "--user",
            user("disabled"),
            "--account-control=[D]",
        ]));
        Self { server: serve(root, at), at, limited: false, folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// `smb://host:port/backups/FOLDER`; an empty folder for the share itself.
    #[must_use]
    pub fn url(&self, folder: &str) -> String {
        self.url_of("backups", folder)
    }

    /// The same for any share.
    #[must_use]
    pub fn url_of(&self, share: &str, folder: &str) -> String {
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("smb://{}/{share}{slash}{folder}", self.at)
    }

    /// The credentials file of `agent`, `neighbour`, `coordinator`, `pruner`, `disabled` or `admin`.
    ///
    /// # Panics
    /// When there is no such account.
    #[must_use]
    pub fn credentials(account: &str) -> String {
        format!("username = {}\npassword = {}\ndomain = {DOMAIN}\n", user(account), password(account))
    }

    /// The agent's, in the other spellings that there are: `DOMAIN\user`, no domain, and a principal name.
    #[must_use]
    pub fn spellings() -> [String; 3] {
        [format!("{DOMAIN}\\{}", user("agent")), user("agent").to_owned(), PRINCIPAL.to_owned()]
            .map(|user| format!("username={user}\npassword={}\n", password("agent")))
    }

    /// The name of an account.
    ///
    /// # Panics
    /// When there is no such account.
    #[must_use]
    pub fn user(account: &str) -> &'static str {
        user(account)
    }

    /// The password of an account.
    ///
    /// # Panics
    /// When there is no such account.
    #[must_use]
    pub fn password(account: &str) -> &'static str {
        password(account)
    }

    /// The SID of an account, by which ACLs name it.
    ///
    /// # Panics
    /// When pdbedit does not tell.
    #[must_use]
    pub fn sid(&self, account: &str) -> String {
        let mut command = Command::new("pdbedit");
        command.arg("-s").arg(self.folder.path().join("smb.conf")).args(["--list", "--verbose", "--user"]);
        let told = command.arg(user(account)).output().expect("pdbedit");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let sid = told.lines().find_map(|line| line.strip_prefix("User SID:"));
        sid.unwrap_or_else(|| panic!("{account}: {told}")).trim().to_owned()
    }

    /// The folder of a share on disk.
    #[must_use]
    pub fn disk(&self, share: &str) -> PathBuf {
        self.folder.path().join(share)
    }

    /// Lets every user of the system write into a folder on disk.
    ///
    /// # Panics
    /// When it is not there.
    pub fn open_to_all(folder: &Path) {
        set_mode(folder, 0o777);
    }

    /// Gives a folder on disk to the user of one account and the main group of another.
    ///
    /// # Panics
    /// When it is not there.
    pub fn give(folder: &Path, owner: &str, group: &str, mode: u32) {
        let group = Command::new("id").args(["--group", user(group)]).output().expect("id").stdout;
        let group = String::from_utf8_lossy(&group).into_owned();
        run(Command::new("chown").arg(format!("{}:{}", user(owner), group.trim())).arg(folder));
        set_mode(folder, mode);
    }

    /// Gives the share `small` so much room.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn limit(&mut self, mib: u32) {
        let options = format!("size={mib}m,mode=0777");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(self.disk("small")));
        self.limited = true;
    }

    /// SIGKILL for all its processes.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again over what it holds.
    pub fn restart(&mut self) {
        self.server = serve(self.folder.path(), self.at);
    }

    /// SIGKILL for the processes of sessions alone; tells how many there were.
    ///
    /// # Panics
    /// When there is no `/proc`.
    pub fn kill_sessions(&self) -> usize {
        let parent = self.server.id();
        let mut killed = 0;
        for entry in fs::read_dir("/proc").expect("processes") {
            let path = entry.expect("a process").path();
            let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
            // `pid (name) state parent …`
            let stat = read("stat");
            let of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            if of == Some(parent)
                && is_session(read("comm").trim())
                && let Some(id) = path.file_name().and_then(|name| name.to_str())
            {
                run(Command::new("kill").args(["-KILL", id]));
                killed += 1;
            }
        }
        killed
    }

    /// Sets the ACL of a folder of a share with smbcacls, as `admin`. Its ACEs are in smbcacls' own form.
    ///
    /// # Panics
    /// When smbcacls fails.
    pub fn set_acl(&self, share: &str, folder: &str, entries: &[String]) {
        let mut command = self.smbcacls("admin", share, folder);
        let entries = entries.join(",");
        run(command.args(["--set", &entries]));
    }

    /// Whether this account may add this ACE.
    ///
    /// # Panics
    /// When smbcacls cannot be run.
    #[must_use]
    pub fn may_add_ace(&self, account: &str, share: &str, path: &str, entry: &str) -> bool {
        let mut command = self.smbcacls(account, share, path);
        let done = command.args(["--add", entry]).output().expect("smbcacls");
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() || said.contains("NT_STATUS_ACCESS_DENIED"), "{said}");
        done.status.success()
    }

    fn smbcacls(&self, account: &str, share: &str, path: &str) -> Command {
        let mut command = Command::new("smbcacls");
        command.arg("--configfile").arg(self.folder.path().join("smb.conf"));
        command.arg(format!("--user={DOMAIN}\\{}", user(account)));
        command.arg(format!("--password={}", password(account)));
        command.arg(format!("//{}/{share}", self.at.ip())).arg(path);
        command
    }
}

impl Drop for Samba {
    fn drop(&mut self) {
        if self.limited {
            self.server.kill_if_running();
            let _ = Command::new("umount").arg("--lazy").arg(self.disk("small")).status();
        }
    }
}

/// Whether a child of the server of this name serves a connection: those of its own housekeeping are called otherwise.
fn is_session(name: &str) -> bool {
    name == "smbd" || name.starts_with("smbd[")
}

fn user(account: &str) -> &'static str {
    find(account).0
}

fn password(account: &str) -> &'static str {
    find(account).1
}

fn find(account: &str) -> (&'static str, &'static str) {
    let found = ACCOUNTS.into_iter().find(|(name, _, _)| *name == account);
    found.map(|(_, user, password)| (user, password)).expect("an account")
}

fn set_mode(folder: &Path, mode: u32) {
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("permissions");
}

fn configuration(root: &Path, at: SocketAddr) -> String {
    let (root, address, port) = (root.display(), at.ip(), at.port());
    format!(
        "[global]
workgroup = {DOMAIN}
server role = standalone server
smb ports = {port} 445
interfaces = {address}/8
bind interfaces only = yes
disable netbios = yes
private dir = {root}/private
lock directory = {root}/lock
state directory = {root}/state
cache directory = {root}/cache
pid directory = {root}/pid
ncalrpc dir = {root}/ncalrpc
log file = {root}/log.smbd
passdb backend = tdbsam:{root}/private/passdb.tdb
username map = {root}/users.map
map to guest = never
server min protocol = SMB2_10
server signing = mandatory
load printers = no
disable spoolss = yes

[backups]
path = {root}/backups
read only = no

[readonly]
path = {root}/backups
read only = yes

[encrypted]
path = {root}/backups
read only = no
smb encrypt = required

[closed]
path = {root}/backups
valid users = nobody

[small]
path = {root}/small
read only = no

[capitals]
path = {root}/capitals
read only = no
preserve case = no
short preserve case = no
default case = upper

[lower]
path = {root}/lower
read only = no
preserve case = no
short preserve case = no
default case = lower

[guarded]
path = {root}/guarded
read only = no
vfs objects = acl_xattr
acl_xattr:ignore system acls = yes
"
    )
}

fn make_account(root: &Path, user: &str, password: &str) {
    let mut command = Command::new("pdbedit");
    command.arg("-s").arg(root.join("smb.conf")).args(["--create", "--password-from-stdin", "--user", user]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("pdbedit");
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "{password}\n{password}").expect("written");
    drop(input);
    assert!(child.wait().expect("pdbedit ends").success(), "pdbedit makes {user}");
}

fn serve(root: &Path, at: SocketAddr) -> Server {
    let mut command = Command::new("smbd");
    command.arg("--configfile").arg(root.join("smb.conf")).args(["--foreground", "--no-process-group"]);
    Server::start_family("smbd", command, root, at)
}
