//! What `muster config set` and `unset` are to change, read off the command line.

use std::collections::BTreeMap;

use muster_protocol::{schedule, settings, token};

use crate::failure::Failure;

/// Settings to change: none in place of a value lets it be what it is where nobody sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changes(BTreeMap<String, Option<String>>);

const NEXT: &str = "muster config show names the settings and their values";

impl Changes {
    /// `KEY VALUE` and `KEY=VALUE`, in any order.
    ///
    /// # Errors
    /// Exit 2 when a value is missing, a key is named twice, or one of them cannot be.
    pub(super) fn to_set(words: &[String]) -> Result<Self, Failure> {
        let mut changes = BTreeMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, value),
                None => {
                    let value = words.next().ok_or_else(|| {
                        Failure::usage(format!("{word} has no value"))
                            .next("muster config set KEY VALUE")
                            .next(NEXT)
                    })?;
                    (word.as_str(), value.as_str())
                }
            };
            managed(key)?;
            settings::check(key, value).map_err(|error| Failure::usage(error.to_string()).next(NEXT))?;
            if changes.insert(key.to_owned(), Some(value.to_owned())).is_some() {
                return Err(Failure::usage(format!("{key} is named twice")).next(NEXT));
            }
        }
        Ok(Self(changes))
    }

    /// Keys alone.
    ///
    /// # Errors
    /// Exit 2 when there is no such setting.
    pub(super) fn to_unset(keys: &[String]) -> Result<Self, Failure> {
        for key in keys {
            managed(key)?;
            if settings::what(key).is_none() {
                let unknown =
                    settings::check(key, "").err().map(|error| error.to_string()).unwrap_or_default();
                return Err(Failure::usage(unknown).next(NEXT));
            }
        }
        Ok(Self(keys.iter().map(|key| (key.clone(), None)).collect()))
    }

    /// Makes them.
    pub(super) fn apply(&self, clear: &mut BTreeMap<String, String>) {
        for (key, value) in &self.0 {
            match value {
                Some(value) => drop(clear.insert(key.clone(), value.clone())),
                // What holds anyway needs no signature.
                None => clear
                    .retain(|known, held| known != key || settings::default_of(key) == Some(held.as_str())),
            }
        }
    }

    /// Whom rules are for: a service or a pattern.
    pub(super) fn services(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| value.is_some()).filter_map(|(key, _)| key.strip_prefix("service."))
    }

    /// Whether fewer rounds may stay than before.
    pub(super) fn retain_less(&self, before: &BTreeMap<String, String>) -> bool {
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        self.0.iter().any(|(key, value)| {
            let Some(default) = settings::default_of(key).filter(|_| key.starts_with("retention.")) else {
                return false;
            };
            let (old, new) =
                (before.get(key).map_or(default, String::as_str), value.as_deref().unwrap_or(default));
            key != "retention.grace" && number(new) < number(old)
        })
    }

    /// Whether they change when rounds begin by themselves.
    pub(super) fn concern_the_schedule(&self) -> bool {
        let mut clear = BTreeMap::new();
        for key in self.0.keys() {
            clear.insert(key.clone(), "changed".to_owned());
        }
        schedule::differs(&clear, &BTreeMap::new())
    }

    /// What holds without any change, each on a line.
    pub(super) fn already(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(key, value)| format!("{key} is {} already", held(key, value.as_deref())))
            .collect()
    }

    /// Each change on a line.
    pub(super) fn told(&self, before: &BTreeMap<String, String>) -> Vec<String> {
        let line = |(key, value): (&String, &Option<String>)| {
            let held = held(key, value.as_deref());
            let what = match value {
                Some(_) => format!("{key} = {held}"),
                None => format!("{key} = {held} (default)"),
            };
            match before.get(key).filter(|was| *was != held) {
                Some(was) => format!("{what}, was {was}"),
                None => what,
            }
        };
        self.0.iter().map(line).collect()
    }
}

/// What holds with this value, or none.
fn held<'a>(key: &str, value: Option<&'a str>) -> &'a str {
    value.or_else(|| settings::default_of(key)).unwrap_or("default")
}

fn managed(key: &str) -> Result<(), Failure> {
    if key.starts_with(token::PREFIX) {
        return Err(Failure::usage(format!("{key} is not set by hand"))
            .next("muster token new NAME --role ROLE --into FILE makes a token")
            .next("muster token revoke NAME ends one"));
    }
    if settings::is_managed(key) {
        return Err(Failure::usage(format!("{key} is not set by hand"))
            .next("muster disable --reason TEXT --until TIME lets no round begin")
            .next("muster enable tests everything, and lets rounds begin"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Changes;

    fn set(words: &[&str]) -> Result<Changes, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Changes::to_set(&words).map_err(|failure| failure.to_string())
    }

    #[test]
    fn keys_and_values_are_read_in_both_ways() {
        let mut clear = BTreeMap::new();
        let words = ["service.db", "tier=1, hold=10s", "interval=12h", "schedule", "0 3 * * *"];
        let changes = set(&words).expect("read");
        changes.apply(&mut clear);
        assert_eq!(clear["service.db"], "tier=1, hold=10s");
        assert_eq!((clear["interval"].as_str(), clear["schedule"].as_str()), ("12h", "0 3 * * *"));
        assert!(changes.concern_the_schedule() && !changes.retain_less(&BTreeMap::new()));
        let before = [("interval".to_owned(), "24h".to_owned())].into();
        assert!(changes.told(&before).contains(&"interval = 12h, was 24h".to_owned()));
        Changes::to_unset(&["interval".to_owned()]).expect("a key").apply(&mut clear);
        assert!(!clear.contains_key("interval"));
        // What holds where nobody sets it is no change, written down or not.
        let defaults: BTreeMap<_, _> = [("interval".to_owned(), "24h".to_owned())].into();
        let mut clear = defaults.clone();
        let keys = ["interval".to_owned(), "schedule".to_owned(), "service.db".to_owned()];
        Changes::to_unset(&keys).expect("keys").apply(&mut clear);
        assert_eq!(clear, defaults);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (words, part) in [
            (&["interval"][..], "interval has no value"),
            (&["interval=12h", "interval", "24h"], "named twice"),
            (&["enabled=yes"], "muster enable tests everything"),
            (&["token.ci=viewer"], "muster token new NAME"),
            (&["retention.min_verified=0"], "retention.min_verified must be a number from 1 to"),
            (&["retention.keep", "7"], "there is no setting"),
        ] {
            let error = set(words).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        let error = Changes::to_unset(&["retention".to_owned()]).expect_err("none").to_string();
        assert!(error.contains("there is no setting"), "{error}");
    }

    #[test]
    fn less_retention_is_seen() {
        let less = |words: &[&str], before: &[(&str, &str)]| {
            let before = before.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            set(words).expect("read").retain_less(&before)
        };
        assert!(less(&["retention.keep_days=3"], &[]));
        assert!(!less(&["retention.keep_days=30"], &[]));
        assert!(less(&["retention.keep_days=14"], &[("retention.keep_days", "30")]));
        assert!(!less(&["retention.grace=0s", "interval=1h"], &[]));
    }
}
