//! Text such as services keep: rows of a database dump, and small files of four kinds.

use std::fmt::Write;

use super::rng::Rng;

const WORDS: [&str; 64] = [
    "account", "accept", "address", "archive", "balance", "batch", "billing", "branch", "broker", "bucket",
    "channel", "charge", "client", "closed", "commit", "confirm", "contract", "counter", "credit",
    "customer", "delay", "deliver", "denied", "device", "digest", "dispatch", "domain", "engine", "export",
    "failed", "filter", "gateway", "granted", "handler", "import", "invoice", "ledger", "limit", "locale",
    "mailbox", "member", "metric", "network", "notice", "offline", "packet", "partner", "payment", "pending",
    "policy", "quota", "receipt", "refund", "region", "renewed", "router", "schema", "sensor", "shard",
    "signal", "tenant", "ticket", "update", "voucher",
];
const NAMES: [&str; 24] = [
    "ada", "bela", "carl", "dora", "emil", "frida", "gero", "hanna", "ivo", "jana", "kurt", "lena", "milo",
    "nora", "otto", "paula", "quirin", "rosa", "sven", "tilda", "uwe", "vera", "wanda", "yannis",
];
const STATES: [&str; 6] = ["new", "paid", "packed", "sent", "returned", "void"];
const SITES: [&str; 6] = ["north", "south", "east", "west", "core", "edge"];

/// Tables of the made-up dumps.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    People,
    Orders,
    Events,
}

/// Appends one row in the form of PostgreSQL's COPY.
pub(crate) fn row(out: &mut String, rng: &mut Rng, table: Table, key: u64) {
    let done = match table {
        Table::People => {
            let (first, last) = (rng.pick(&NAMES), rng.pick(&WORDS));
            let (number, secret, more) = (rng.below(1000), rng.next(), rng.next());
            let when = moment(rng, key * 7);
            writeln!(
                out,
                "{key}\t{first}.{last}{number}@example.org\t{first} {last}\t$2b$12${secret:016x}{more:016x}\t{when}\t\
                 {{\"lang\": \"en\", \"theme\": \"dark\", \"mail\": true}}\t\\N"
            )
        }
        Table::Orders => {
            let (person, state, cents) = (rng.below(400_000), rng.pick(&STATES), rng.below(10_000_000));
            let (when, host) = (moment(rng, key * 3), host(rng));
            let words = words(rng, 4, 12);
            let (whole, part) = (cents / 100, cents % 100);
            writeln!(out, "{key}\t{person}\t{state}\t{whole}.{part:02}\tEUR\t{when}\t{host}\t{words}")
        }
        Table::Events => {
            let (when, host, id) = (moment(rng, key), host(rng), rng.next());
            let (path, item, millis) = (rng.pick(&WORDS), rng.below(10_000), rng.below(3_000));
            let status = [200, 200, 200, 200, 201, 304, 404, 500][rng.index(8)];
            let words = words(rng, 5, 11);
            writeln!(
                out,
                "{key}\t{when}\t{host}\t{{\"id\": \"{id:016x}\", \"path\": \"/v1/{path}/{item}\", \"status\": {status}, \
                 \"ms\": {millis}, \"text\": \"{words}\"}}"
            )
        }
    };
    done.expect("text in memory grows");
}

/// A small file of about `size` bytes; which kind, `kind` decides: log, JSON, YAML, or lines of settings.
pub(crate) fn small(rng: &mut Rng, kind: u64, size: usize) -> String {
    let mut out = String::with_capacity(size + 256);
    let mut number = 0;
    while out.len() < size {
        number += 1;
        let (one, two, host) = (rng.pick(&WORDS), rng.pick(&WORDS), host(rng));
        let (some, id) = (rng.below(65_536), rng.next());
        let done = match kind % 4 {
            0 => {
                let (when, words) = (moment(rng, number), words(rng, 4, 12));
                writeln!(out, "{when} {host} {one}[{some}]: {words} id={id:012x}")
            }
            1 => writeln!(
                out,
                "{{\"name\": \"{one}-{some}\", \"host\": \"{host}\", \"on\": true, \"sum\": \"{id:016x}{some:06x}\"}}"
            ),
            2 => writeln!(
                out,
                "  {one}_{number}:\n    image: {two}:{some}\n    env: {{HOST: {host}, MODE: {two}}}"
            ),
            _ => writeln!(out, "{one}.{two} = {two} {some}"),
        };
        done.expect("text in memory grows");
    }
    out
}

pub(crate) fn words(rng: &mut Rng, least: u64, more: u64) -> String {
    let count = least + rng.below(more);
    (0..count).map(|_| rng.pick(&WORDS)).collect::<Vec<_>>().join(" ")
}

fn host(rng: &mut Rng) -> String {
    format!("{}-{:02}.{}.example.org", rng.pick(&WORDS), rng.below(24), rng.pick(&SITES))
}

fn moment(rng: &mut Rng, seconds: u64) -> String {
    let at = seconds + rng.below(600);
    let (day, second) = (at / 86_400, at % 86_400);
    format!(
        "2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        1 + day / 28 % 12,
        1 + day % 28,
        second / 3_600,
        second / 60 % 60,
        second % 60,
        rng.below(1_000_000)
    )
}
