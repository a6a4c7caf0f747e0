//! The HTTP API as a plain client has it: requests written by hand on a socket, so that nothing between test and server mends what
//! is sent or hides what comes back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::{Fleet, text};
use crate::process::{LIMIT, wait_for};

/// The API of one coordinator.
#[derive(Debug, Clone)]
pub struct Api {
    /// Its port on loopback.
    pub port: u16,
    /// What is shown, unless a request says otherwise.
    pub token: Option<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its status code.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Answered {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The same, if it has this status.
    ///
    /// # Panics
    /// Otherwise, with all that was said.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

impl Fleet {
    /// Gives the coordinators that are started from here on an API on a port of its own.
    ///
    /// # Panics
    /// When there is no port.
    pub fn take_http_port(&mut self) -> Api {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        self.set("MUSTER_HTTP_LISTEN", &format!("127.0.0.1:{port}"));
        Api { port, token: None }
    }

    /// A new token's secret, made by `muster token new`.
    ///
    /// # Panics
    /// When it is not made.
    #[must_use]
    pub fn token(&self, name: &str, role: &str, expires: &str) -> String {
        let file = self.path(&format!("{name}.token"));
        let into = text(&file);
        let args = ["token", "new", name, "--role", role, "--expires", expires, "--into", &into];
        let _ = self.run(&args).with_code(0);
        read_token(&file)
    }
}

/// The secret in a file that `muster token new` wrote.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn read_token(file: &Path) -> String {
    std::fs::read_to_string(file).expect("a token").trim().to_owned()
}

impl Api {
    /// The same, with this token.
    #[must_use]
    pub fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same, without any.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// Reads.
    #[must_use]
    pub fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, &[], "")
    }

    /// Acts.
    #[must_use]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        self.ask("POST", path, headers, body)
    }

    /// Asks to read, and leaves the answer on its way.
    ///
    /// # Panics
    /// When it is not sent.
    #[must_use]
    pub fn begin(&self, path: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(self.head("GET", path, &[], "").as_bytes()).expect("sent");
        stream
    }

    /// One request on a connection of its own. Headers that are given replace those that are usual.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let mut stream = self.connect();
        stream.write_all(self.head(method, path, headers, body).as_bytes()).expect("sent");
        stream.write_all(body.as_bytes()).ok();
        answer(stream)
    }

    /// A connection on which nothing was said yet.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut all = vec![("Host".to_owned(), format!("127.0.0.1:{}", self.port))];
        all.push(("Connection".to_owned(), "close".to_owned()));
        if let Some(token) = &self.token {
            all.push(("Authorization".to_owned(), format!("Bearer {token}")));
        }
        if !body.is_empty() {
            all.push(("Content-Type".to_owned(), "application/json".to_owned()));
            all.push(("Content-Length".to_owned(), body.len().to_string()));
        } else if method != "GET" {
            all.push(("Content-Length".to_owned(), "0".to_owned()));
        }
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)));
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{method} {path} HTTP/1.1\r\n{lines}\r\n")
    }

    /// Follows events until the connection ends: each with its name and its JSON.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn events(&self, path: &str) -> Vec<(String, Value)> {
        let answered = self.get(path).with_status(200);
        assert_eq!(answered.header("content-type"), Some("text/event-stream"), "{answered:?}");
        let mut events = Vec::new();
        for block in answered.body.split("\n\n").filter(|block| block.starts_with("event: ")) {
            let (name, data) = block.split_once('\n').expect("a name and data");
            let data = data.strip_prefix("data: ").expect("data");
            let name = name.trim_start_matches("event: ").to_owned();
            events.push((name, serde_json::from_str(data).expect("JSON")));
        }
        events
    }

    /// Waits until it answers with share and bus in hand.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_until_ready(&self) {
        wait_for("the API is ready", || {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            drop(stream);
            (self.bare().get("/readyz").status == 200).then_some(())
        });
    }
}

/// Reads an answer to its end.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn answer(stream: TcpStream) -> Answered {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {line:?}"));
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).expect("a body");
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunked(&body) } else { body };
    Answered { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// RFC 9112, section 7.1, without extensions.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let length =
            std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(length) = length.filter(|length| *length > 0) else { break };
        let chunk = &rest[end + 2..];
        body.extend_from_slice(&chunk[..length.min(chunk.len())]);
        rest = chunk.get(length + 2..).unwrap_or_default();
    }
    body
}
