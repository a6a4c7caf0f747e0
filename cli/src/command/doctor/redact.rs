//! Configurations without what may be secret in them. They hold no keys, but words that are given to other programs can be anything.

use toml::{Table, Value};

/// Stands for what was left out.
const LEFT_OUT: &str = "…";

/// Keys whose values are words for other programs: the first one, the program, stays.
const WORDS: [&str; 5] = ["argv", "quiesce", "release", "restore", "env"];
/// Parts of a key's name under which nothing stays.
const SECRET: [&str; 4] = ["password", "secret", "token", "passphrase"];

/// The text of a configuration as it may be shown; none: it is no TOML, and nobody can tell what is in it.
pub(super) fn configuration(text: &str) -> Option<String> {
    let mut table: Table = text.parse().ok()?;
    redact(&mut table);
    toml::to_string(&table).ok()
}

fn redact(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        if SECRET.iter().any(|part| key.contains(part)) {
            *value = Value::String(LEFT_OUT.to_owned());
        } else if key == "notify" {
            channels(value);
        } else if WORDS.contains(&key.as_str()) {
            words(value);
        } else {
            inside(value);
        }
    }
}

/// The path of an address is the secret of many receivers of messages.
fn channels(value: &mut Value) {
    let Value::Array(channels) = value else { return inside(value) };
    for channel in channels {
        inside(channel);
        if let Value::Table(channel) = channel
            && let Some(Value::String(url)) = channel.get_mut("url")
        {
            let (scheme, rest) = url.split_once("://").unwrap_or_default();
            let host = rest.split('/').next().unwrap_or_default();
            *url = format!("{scheme}://{host}/{LEFT_OUT}");
        }
    }
}

fn words(value: &mut Value) {
    match value {
        Value::Array(words) => {
            for word in words.iter_mut().skip(1) {
                *word = Value::String(LEFT_OUT.to_owned());
            }
        }
        Value::Table(_) | Value::String(_) => inside(value),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn inside(value: &mut Value) {
    match value {
        Value::Table(table) => redact(table),
        Value::Array(items) => items.iter_mut().for_each(inside),
        Value::String(text) => {
            // Addresses are refused with a user in them; what somebody wrote all the same is not passed on, and what a query asks
            // for is nobody's business.
            if let Some((scheme, rest)) = text.split_once("://") {
                let (place, query) = rest.split_once('?').map_or((rest, ""), |(place, _)| (place, "?…"));
                *text = match place.rsplit_once('@') {
                    Some((_, host)) => format!("{scheme}://{LEFT_OUT}@{host}{query}"),
                    None => format!("{scheme}://{place}{query}"),
                };
            }
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::configuration;

    #[test]
    fn nothing_that_may_be_secret_stays() {
        let text = r#"
            [nats]
            url = "tls://anna:hunter2@bus.example.org:4222"
            otlp = "https://otel.example.org/v1?api_key=hunter2"
            [hooks]
            quiesce = ["/usr/bin/app", "--password", "hunter2"]
            [[source]]
            kind = "command"
            argv = ["pg_dump", "postgres://u:hunter2@db.example.org/x"]
            env = ["PATH", "hunter2"]
            db_password = "hunter2"
            [[notify]]
            name = "ops"
            url = "https://hooks.example.org/services/hunter2"
            [[source]]
            nested = [{ api_token = "hunter2", path = "/srv" }]
        "#;
        let shown = configuration(text).expect("TOML");
        assert!(!shown.contains("hunter2") && !shown.contains("anna"), "{shown}");
        for stays in [
            "bus.example.org:4222",
            "https://hooks.example.org/…",
            "/usr/bin/app",
            "pg_dump",
            "/srv",
            "kind = \"command\"",
        ] {
            assert!(shown.contains(stays), "{stays}: {shown}");
        }
        assert_eq!(configuration("hunter2 = ["), None);
    }
}
