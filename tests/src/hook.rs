//! A receiver of webhooks: a small HTTP server that keeps what it gets and answers what the test wants.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Longest body that is taken.
const MOST: usize = 4 << 20;
/// How long a request that gets no answer is kept open.
const HUNG: Duration = Duration::from_secs(60);

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// This status, and to come again after so many seconds.
    After(u16, u64),
    /// 307 to this path.
    Redirect(&'static str),
    /// 200, and nothing behind it: what OTLP takes for a whole success.
    Empty,
    /// Nothing, for a minute.
    Nothing,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Got {
    /// `GET`, `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// What came behind them.
    pub body: Vec<u8>,
    /// When it came.
    pub at: Instant,
    /// What it was answered.
    pub answer: Answer,
}

impl Got {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }

    /// Whether it is signed with this secret, by the rule that the documentation gives.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let header = self.headers.get("muster-signature").map(String::as_str).unwrap_or_default();
        let Some((at, sum)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else {
            return false;
        };
        let signed = [at.as_bytes(), b".", &self.body].concat();
        sum == data_encoding::HEXLOWER.encode(&hmac(secret.as_bytes(), &signed))
    }
}

/// HMAC-SHA256 as RFC 2104 writes it down, for keys of at most 64 bytes: not the code that is tested.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut padded = [0_u8; 64];
    padded[..key.len()].copy_from_slice(key);
    let pad = |with: u8| padded.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[derive(Debug)]
struct State {
    got: Vec<Got>,
    next: VecDeque<Answer>,
    then: Answer,
}

/// A running receiver. It ends with the test's process.
#[derive(Debug, Clone)]
pub struct Hook {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Hook {
    /// One that answers everything with 200.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = State { got: Vec::new(), next: VecDeque::new(), then: Answer::Status(200) };
        let hook = Self { port, state: Arc::new(Mutex::new(state)) };
        let served = hook.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hook = served.clone();
                std::thread::spawn(move || hook.serve(stream));
            }
        });
        hook
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Answers the next requests with these, and all after them with `then`.
    pub fn answers(&self, next: impl IntoIterator<Item = Answer>, then: Answer) {
        let mut state = self.lock();
        state.next = next.into_iter().collect();
        state.then = then;
    }

    /// Everything that came.
    #[must_use]
    pub fn got(&self) -> Vec<Got> {
        self.lock().got.clone()
    }

    /// What arrived, as JSON: requests that were answered with 2xx.
    #[must_use]
    pub fn taken(&self) -> Vec<Value> {
        let taken = self.got().into_iter().filter(|got| matches!(got.answer, Answer::Status(200..=299)));
        taken.map(|got| got.json()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection: one request after the other.
    fn serve(&self, stream: TcpStream) {
        let Ok(mut answers) = stream.try_clone() else { return };
        let mut reader = BufReader::new(stream);
        while let Some(got) = read(&mut reader) {
            let answer = {
                let mut state = self.lock();
                let answer = state.next.pop_front().unwrap_or_else(|| state.then.clone());
                state.got.push(Got { answer: answer.clone(), ..got });
                answer
            };
            let mut body = "said";
            let head = match answer {
                Answer::Status(status) => format!("HTTP/1.1 {status} S\r\n"),
                Answer::After(status, secs) => format!("HTTP/1.1 {status} S\r\nRetry-After: {secs}\r\n"),
                Answer::Redirect(path) => format!("HTTP/1.1 307 S\r\nLocation: {}\r\n", self.url(path)),
                Answer::Empty => {
                    body = "";
                    "HTTP/1.1 200 S\r\n".to_owned()
                }
                Answer::Nothing => return std::thread::sleep(HUNG),
            };
            let length = body.len();
            if answers.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).is_err()
            {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Got> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; usize::min(length, MOST)];
    reader.read_exact(&mut body).ok()?;
    Some(Got { method, path, headers, body, at: Instant::now(), answer: Answer::Nothing })
}
