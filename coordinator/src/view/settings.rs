//! The settings of the fleet: `muster config show`. Never a secret; the tokens' hashes are left to `muster token list`.

use std::collections::BTreeMap;

use muster_protocol::log::State;
use muster_protocol::{settings, token};
use schemars::JsonSchema;
use serde::Serialize;

use super::{HeadView, timetable};

/// `{"schema":"muster.config/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct SettingsView {
    /// `muster.config/1`
    pub schema: &'static str,
    /// All settings with what holds for each.
    pub settings: BTreeMap<String, String>,
    /// `set`, or `default` where what holds is what holds where nobody sets it.
    pub origins: BTreeMap<String, &'static str>,
    /// The object that keeps the sealed part.
    pub sealed: Option<String>,
    /// What it holds; null when it cannot be opened here. No coordinator opens it for the HTTP API.
    pub kept: Option<KeptView>,
    /// The record that says so now; null where nothing was changed.
    pub head: Option<HeadView>,
}

/// `kept`
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptView {
    /// The configuration files in it, by name.
    pub files: Vec<String>,
    /// Fingerprint of the share's credentials.
    pub credentials: Option<String>,
    /// Who may read it.
    pub recipients: Vec<String>,
}

impl SettingsView {
    /// Those of a log.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut settings = settings::defaults();
        settings.extend(timetable::clear(state));
        settings.retain(|key, _| !key.starts_with(token::PREFIX));
        let origin = |(key, value): (&String, &String)| {
            let word = if settings::default_of(key) == Some(value) { "default" } else { "set" };
            (key.clone(), word)
        };
        Self {
            schema: "muster.config/1",
            origins: settings.iter().map(origin).collect(),
            settings,
            sealed: state.config.as_ref().and_then(|config| config.sealed).map(|id| format!("lists/{id}")),
            kept: None,
            head: None,
        }
    }
}
