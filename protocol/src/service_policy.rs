//! What is expected of each service in a round: rules of the fleet-wide settings, found by the service's name.
//!
//! A setting `service.PATTERN` holds words, such as `optional, tier=2, label=edge`. PATTERN is a service's name, the
//! start of names followed by `*`, or `*` alone. Every rule that fits a service counts, the longest pattern last, so that
//! it has the last word on each point; labels add up. So a few rules serve ten thousand services.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::ServiceName;
use crate::units::{parse_duration, parse_size};

/// What a setting's key starts with when it is a rule.
pub const RULE_PREFIX: &str = "service.";
/// The value of a rule that says nothing.
pub const NO_RULE: &str = "default";
/// The tiers that there are: the first begins first.
pub const TIERS: std::ops::RangeInclusive<u8> = 1..=9;

/// When a service is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// In every round.
    #[default]
    Always,
    /// Only in rounds in which its agent says hello: machines that come and go.
    WhilePresent,
}

/// What is expected of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePolicy {
    /// Whether a round without it is partial.
    pub required: bool,
    /// When it is expected.
    pub expected: Expected,
    /// Services of a lower tier begin first.
    pub tier: u8,
    /// Names of subsets that it belongs to.
    pub labels: BTreeSet<String>,
    /// The longest that it may be held quiesced; none: what its agent's own configuration says.
    pub max_hold: Option<Duration>,
    /// Bytes a second that it uploads at most; none: what its agent's own configuration says.
    pub bandwidth: Option<u64>,
    /// Attempts in a round; none: as all services.
    pub attempts: Option<u32>,
    /// Longest time in a round, from the beginning of its tier; none: the round's deadline.
    pub deadline: Option<Duration>,
}

impl Default for ServicePolicy {
    fn default() -> Self {
        Self {
            required: true,
            expected: Expected::Always,
            tier: 5,
            labels: BTreeSet::new(),
            max_hold: None,
            bandwidth: None,
            attempts: None,
            deadline: None,
        }
    }
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The key names no services.
    #[error(
        "{pattern:?} is no pattern: write a service's name, or the start of names and a star, such as dns-*"
    )]
    Pattern {
        /// What was given, cut to 64 characters.
        pattern: String,
    },
    /// Two words say different things of the same.
    #[error("{first:?} and {second:?} contradict each other: write one of them")]
    Contradiction {
        /// The first, cut to 64 characters.
        first: String,
        /// The other, cut to 64 characters.
        second: String,
    },
    /// A word means nothing.
    #[error(
        "{word:?} is none of required, optional, always, while-present, tier=1…9, label=NAME, hold=30s, bandwidth=16MiB, attempts=3, deadline=1h; {NO_RULE:?} alone is no rule"
    )]
    Word {
        /// What was given, cut to 64 characters.
        word: String,
    },
}

/// Whether a text may be a label: the rule of names.
#[must_use]
pub fn is_label(text: &str) -> bool {
    text.parse::<ServiceName>().is_ok()
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Rule {
    required: Option<bool>,
    expected: Option<Expected>,
    tier: Option<u8>,
    labels: BTreeSet<String>,
    max_hold: Option<Duration>,
    bandwidth: Option<u64>,
    attempts: Option<u32>,
    deadline: Option<Duration>,
}

/// The rules in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServicePolicies {
    /// Start or whole name, whether it is a start, and the rule; shortest first.
    rules: Vec<(String, bool, Rule)>,
}

impl ServicePolicies {
    /// The rules among the settings. Those that cannot be used say nothing: a later version may have written them.
    #[must_use]
    pub fn of(settings: &BTreeMap<String, String>) -> Self {
        let mut rules: Vec<_> = settings
            .iter()
            .filter_map(|(key, value)| {
                let (start, open) = pattern(key.strip_prefix(RULE_PREFIX)?).ok()?;
                Some((start, open, rule(value).ok()?))
            })
            .collect();
        // A whole name is more exact than any start, even than itself with a star.
        rules.sort_by(|a, b| (!a.1, a.0.len(), &a.0).cmp(&(!b.1, b.0.len(), &b.0)));
        Self { rules }
    }

    /// What is expected of a service.
    #[must_use]
    pub fn policy(&self, service: &ServiceName) -> ServicePolicy {
        let mut policy = ServicePolicy::default();
        let fits = |(start, open, _): &&(String, bool, Rule)| {
            if *open { service.as_str().starts_with(start.as_str()) } else { service.as_str() == start }
        };
        for (_, _, rule) in self.rules.iter().filter(fits) {
            policy.required = rule.required.unwrap_or(policy.required);
            policy.expected = rule.expected.unwrap_or(policy.expected);
            policy.tier = rule.tier.unwrap_or(policy.tier);
            policy.labels.extend(rule.labels.iter().cloned());
            policy.max_hold = rule.max_hold.or(policy.max_hold);
            policy.bandwidth = rule.bandwidth.or(policy.bandwidth);
            policy.attempts = rule.attempts.or(policy.attempts);
            policy.deadline = rule.deadline.or(policy.deadline);
        }
        policy
    }
}

/// Whether a setting `service.PATTERN` may have this value.
///
/// # Errors
/// When pattern or value cannot be used.
pub fn check(key: &str, value: &str) -> Result<(), RuleError> {
    pattern(key.strip_prefix(RULE_PREFIX).unwrap_or(key))?;
    rule(value)?;
    contradiction(value).map_or(Ok(()), Err)
}

/// The first two words that say different things of the same. Only whoever sets a rule is told: one that was signed before goes on
/// meaning what its last word says.
fn contradiction(text: &str) -> Option<RuleError> {
    let mut said = BTreeMap::new();
    for word in words(text) {
        let point = match word.split_once('=').map_or(word, |(name, _)| name) {
            // Labels add up.
            "label" => continue,
            "required" | "optional" => "required",
            "always" | "while-present" => "expected",
            name => name,
        };
        let first = *said.entry(point).or_insert(word);
        if first != word {
            return Some(RuleError::Contradiction { first: shown(first), second: shown(word) });
        }
    }
    None
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty())
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn pattern(text: &str) -> Result<(String, bool), RuleError> {
    let bad = || RuleError::Pattern { pattern: shown(text) };
    match text.strip_suffix('*') {
        Some("") => Ok((String::new(), true)),
        // A start of a name may end with the hyphen that no whole name ends with.
        Some(start) if start.trim_end_matches('-').parse::<ServiceName>().is_ok() && start.len() <= 32 => {
            Ok((start.to_owned(), true))
        }
        Some(_) => Err(bad()),
        None => text.parse::<ServiceName>().map(|name| (name.as_str().to_owned(), false)).map_err(|_| bad()),
    }
}

fn rule(text: &str) -> Result<Rule, RuleError> {
    let mut rule = Rule::default();
    if text.trim() == NO_RULE {
        return Ok(rule);
    }
    for word in words(text) {
        let bad = || RuleError::Word { word: shown(word) };
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let duration = |least| {
            parse_duration(value).ok().filter(|given| *given >= Duration::from_secs(least)).ok_or_else(bad)
        };
        match (name, value) {
            ("required", "") => rule.required = Some(true),
            ("optional", "") => rule.required = Some(false),
            ("always", "") => rule.expected = Some(Expected::Always),
            ("while-present", "") => rule.expected = Some(Expected::WhilePresent),
            ("tier", _) => {
                let tier = value.parse().ok().filter(|tier| TIERS.contains(tier));
                rule.tier = Some(tier.ok_or_else(bad)?);
            }
            ("label", _) if is_label(value) => {
                rule.labels.insert(value.to_owned());
            }
            ("hold", _) => {
                rule.max_hold = Some(duration(1)?).filter(|hold| *hold <= Duration::from_secs(3600));
                rule.max_hold.ok_or_else(bad)?;
            }
            ("bandwidth", _) => {
                rule.bandwidth = Some(parse_size(value).ok().filter(|bytes| *bytes >= 1024).ok_or_else(bad)?);
            }
            ("attempts", _) => {
                let attempts = value.parse().ok().filter(|attempts| (1..=100).contains(attempts));
                rule.attempts = Some(attempts.ok_or_else(bad)?);
            }
            ("deadline", _) => rule.deadline = Some(duration(1)?),
            _ => return Err(bad()),
        }
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{Expected, ServicePolicies, ServicePolicy, check};

    fn policies(rules: &[(&str, &str)]) -> ServicePolicies {
        let settings: BTreeMap<_, _> =
            rules.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for (key, value) in &settings {
            check(key, value).expect("a rule");
        }
        ServicePolicies::of(&settings)
    }

    fn of(policies: &ServicePolicies, name: &str) -> ServicePolicy {
        policies.policy(&name.parse().expect("a name"))
    }

    #[test]
    fn the_most_exact_rule_has_the_last_word_and_labels_add_up() {
        let policies = policies(&[
            ("service.*", "optional, label=all"),
            ("service.dns-*", "required tier=1 label=edge attempts=5"),
            ("service.dns-2", "while-present, hold=10s, bandwidth=1MiB"),
        ]);
        let plain = of(&policies, "web");
        assert!(!plain.required && plain.tier == 5 && plain.labels.iter().eq(["all"]));
        let dns = of(&policies, "dns-2");
        assert!(dns.required && dns.tier == 1 && dns.attempts == Some(5));
        assert_eq!((dns.expected, dns.bandwidth), (Expected::WhilePresent, Some(1 << 20)));
        assert_eq!(dns.max_hold, Some(Duration::from_secs(10)));
        assert!(dns.labels.iter().eq(["all", "edge"]));
        assert_eq!(of(&self::policies(&[("service.dns-2", "default")]), "dns-2"), ServicePolicy::default());
    }

    #[test]
    fn words_that_contradict_each_other_are_refused_and_still_read_where_they_were_signed() {
        for (value, pair) in [
            ("required, label=a, optional", r#""required" and "optional""#),
            ("always while-present", r#""always" and "while-present""#),
            ("tier=1 optional tier=2", r#""tier=1" and "tier=2""#),
            ("hold=10s, hold=20s", r#""hold=10s" and "hold=20s""#),
        ] {
            let error = check("service.dns", value).expect_err(value).to_string();
            assert!(error.starts_with(pair), "{error}");
        }
        for value in ["optional, optional", "label=a label=b", "tier=1, always"] {
            check("service.dns", value).expect(value);
        }
        let signed = [("service.dns".to_owned(), "required tier=1 optional".to_owned())].into();
        let policy = of(&ServicePolicies::of(&signed), "dns");
        assert!(!policy.required && policy.tier == 1);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (key, value) in [
            ("service.", "optional"),
            ("service.Dns", "optional"),
            ("service.d*s", "optional"),
            ("service.dns", "tier=0"),
            ("service.dns", "tier=10"),
            ("service.dns", "hold=2h"),
            ("service.dns", "hold=1"),
            ("service.dns", "attempts=0"),
            ("service.dns", "label="),
            ("service.dns", "label=A"),
            ("service.dns", "optional=yes"),
            ("service.dns", "sometimes"),
        ] {
            check(key, value).expect_err(value);
        }
    }
}
