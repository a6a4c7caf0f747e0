//! A mail server: aiosmtpd, with TLS, a user and a password, that keeps each mail as a file.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Server, free_port, installed};

/// Whom it lets in.
const USER: &str = "muster";
const PASSWORD: &str = "correct horse hunter2";

const PROGRAM: &str = r#"
import asyncio, os, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

folder, port, mode, user, password = sys.argv[1:6]

class Keep:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        refuse = os.path.join(folder, "refuse")
        if os.path.exists(refuse):
            return open(refuse).read().strip()
        Keep.count += 1
        name = os.path.join(folder, "mails", f"{Keep.count:04}")
        with open(name + ".part", "wb") as file:
            file.write(("X-Recipients: " + ", ".join(envelope.rcpt_tos) + "\r\n").encode())
            file.write(envelope.original_content)
        os.rename(name + ".part", name + ".eml")
        return "250 kept"

def let_in(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
    return AuthResult(success=right, handled=right)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "server.crt"), os.path.join(folder, "server.key"))
starttls = mode == "starttls"

def session():
    return SMTP(Keep(), hostname="mail.example.org", authenticator=let_in, auth_required=True,
                auth_require_tls=starttls, require_starttls=starttls, tls_context=context if starttls else None,
                loop=loop)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(loop.create_server(session, "127.0.0.1", int(port), ssl=None if starttls else context))
loop.run_forever()
"#;

/// How its connections are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailMode {
    /// They begin in clear text.
    Starttls,
    /// TLS from the first byte.
    Implicit,
}

/// A running mail server.
#[derive(Debug)]
pub struct MailServer {
    _server: Server,
    port: u16,
    folder: TempDir,
}

impl MailServer {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mode: MailMode) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::create_dir(folder.path().join("mails")).expect("a folder");
        certify(folder.path());
        let port = free_port();
        let mode = match mode {
            MailMode::Starttls => "starttls",
            MailMode::Implicit => "implicit",
        };
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]).arg(folder.path()).args([&port.to_string(), mode, USER, PASSWORD]);
        command.env("PYTHONPATH", installed("aiosmtpd"));
        let server = Server::start("aiosmtpd", command, folder.path(), port);
        Self { _server: server, port, folder }
    }

    /// Its port on `localhost`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with the certificate that vouches for it.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// User and password.
    #[must_use]
    pub fn login() -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// From now on every mail is answered with this, e.g. `451 later`; none: they are taken again.
    ///
    /// # Panics
    /// When that cannot be written down.
    pub fn refuse(&self, with: Option<&str>) {
        let file = self.folder.path().join("refuse");
        match with {
            Some(with) => std::fs::write(file, with).expect("written"),
            None => std::fs::remove_file(file).expect("removed"),
        }
    }

    /// The mails that it took, in their order.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("mails")).expect("a folder");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).expect("a mail")).collect()
    }
}

/// An authority, and a certificate of it for `localhost`.
fn certify(folder: &Path) {
    let openssl = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(folder).output().expect("openssl runs");
        assert!(done.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let own = ["req", "-x509", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(&[&own[..], &key].concat());
    let server = ["req", "-x509", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.crt"];
    let by = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost"];
    let plain = ["-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&server[..], &key, &by, &plain].concat());
}
