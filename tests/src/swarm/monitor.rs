//! What a nats-server tells of itself on its monitoring port: `/varz` and `/jsz`.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::Failure;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) messages_in: u64,
    pub(super) bytes_in: u64,
    pub(super) messages_out: u64,
}

/// What the server has taken in and given out since it started.
pub(super) fn traffic(port: u16) -> Result<Traffic, Failure> {
    let varz = get(port, "/varz")?;
    let count = |key: &str| varz[key].as_u64().unwrap_or_default();
    Ok(Traffic {
        messages_in: count("in_msgs"),
        bytes_in: count("in_bytes"),
        messages_out: count("out_msgs"),
    })
}

/// How many streams and consumers it keeps.
pub(super) fn kept(port: u16) -> Result<(u64, u64), Failure> {
    let jsz = get(port, "/jsz")?;
    let count = |key: &str| jsz[key].as_u64().ok_or_else(|| format!("/jsz names no {key}"));
    Ok((count("streams")?, count("consumers")?))
}

fn get(port: u16, path: &str) -> Result<Value, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    // Version 1.0, so that the connection ends with the answer.
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the monitoring port gave no answer")?;
    Ok(serde_json::from_str(body)?)
}
