//! The rules that are shipped, as far as their file's lines tell: it is written in one way, which `promtool` holds to be YAML.

use super::wired::deploy;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Of the alert, or what is recorded.
    pub name: String,
    /// Whether it is an alert.
    pub alert: bool,
    /// All of its lines.
    pub text: String,
}

/// All rules of a file of `deploy/prometheus`.
///
/// # Panics
/// When the file cannot be read.
#[must_use]
pub fn rules(file: &str) -> Vec<Rule> {
    let text = std::fs::read_to_string(deploy("prometheus").join(file)).expect("a file of rules");
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let named = |key: &str| line.trim_start().strip_prefix(key).map(|name| name.trim().to_owned());
        let begins = |name: String, alert: bool| Rule { name, alert, text: String::new() };
        let begun = named("- alert:").map(|name| begins(name, true));
        rules.extend(begun.or_else(|| named("- record:").map(|name| begins(name, false))));
        if let Some(rule) = rules.last_mut() {
            rule.text.push_str(line);
            rule.text.push('\n');
        }
    }
    rules
}

impl Rule {
    /// The value of a key on a line of its own.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        let lines = self.text.lines();
        lines.filter_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": ")).map(str::trim).next()
    }

    /// Its expression, on one line.
    #[must_use]
    pub fn expression(&self) -> String {
        let mut lines = self.text.lines().skip_while(|line| !line.trim_start().starts_with("expr:"));
        let first = lines.next().unwrap_or_default();
        let deep = first.len() - first.trim_start().len();
        let first = first.trim_start().trim_start_matches("expr:").trim();
        let rest = lines.take_while(|line| line.len() - line.trim_start().len() > deep).map(str::trim);
        let first = Some(first).filter(|first| *first != "|");
        first.into_iter().chain(rest).collect::<Vec<_>>().join(" ")
    }
}
