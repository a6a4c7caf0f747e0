//! Dashboards as Grafana reads them: as much of its JSON as ours use. What they do not use is refused, so that nothing is drawn
//! otherwise here than there.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::wired::deploy;

/// A dashboard.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Board {
    /// Its id in URLs.
    pub uid: String,
    /// Its name.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Of the JSON model; 38 is Grafana 10.
    pub schema_version: u64,
    /// What it shows.
    pub panels: Vec<Panel>,
    /// Its variables.
    pub templating: Templating,
}

/// The variables of a dashboard.
#[derive(Debug, Clone, Deserialize)]
pub struct Templating {
    /// Each with its name.
    pub list: Vec<Variable>,
}

/// A variable.
#[derive(Debug, Clone, Deserialize)]
pub struct Variable {
    /// As expressions say it, without the dollar.
    pub name: String,
}

/// How a panel shows its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One large number.
    Stat,
    /// Lines or bars over time.
    Timeseries,
    /// A bar for each series.
    Bargauge,
    /// A row for each label.
    Table,
}

/// A panel.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    /// Its id within the dashboard.
    pub id: u64,
    /// How it shows.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it shows.
    pub title: String,
    /// The same in a sentence, with the alert that watches it.
    pub description: String,
    /// Where it is.
    pub grid_pos: Grid,
    /// Where its numbers come from.
    pub datasource: Datasource,
    /// What it asks.
    pub targets: Vec<Query>,
    field_config: FieldConfig,
    #[serde(default)]
    transformations: Vec<Transformation>,
}

/// Columns (24) and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Grid {
    /// From the left.
    pub x: u32,
    /// From above.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
}

/// Where numbers come from.
#[derive(Debug, Clone, Deserialize)]
pub struct Datasource {
    /// A variable, so that a dashboard goes with any Prometheus.
    pub uid: String,
}

/// An expression and what its series are called.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// In PromQL, with variables.
    pub expr: String,
    /// With labels in double braces.
    pub legend_format: String,
    /// Its datasource.
    pub datasource: Datasource,
}

#[derive(Debug, Clone, Deserialize)]
struct FieldConfig {
    defaults: Defaults,
    overrides: Vec<Override>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Defaults {
    #[serde(default)]
    unit: String,
    decimals: Option<usize>,
    min: Option<f64>,
    max: Option<f64>,
    no_value: Option<String>,
    thresholds: Thresholds,
    #[serde(default)]
    mappings: Vec<Mapping>,
    #[serde(default)]
    custom: Custom,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Custom {
    draw_style: String,
    line_interpolation: String,
    stacking: Mode,
    thresholds_style: Mode,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Mode {
    mode: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Thresholds {
    steps: Vec<Step>,
}

/// From a value on, a colour.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// None: from below everything.
    pub value: Option<f64>,
    /// `green`, `orange`, `red`.
    pub color: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Mapping {
    options: BTreeMap<String, Text>,
}

#[derive(Debug, Clone, Deserialize)]
struct Text {
    text: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Override {
    matcher: Matcher,
    properties: Vec<Property>,
}

#[derive(Debug, Clone, Deserialize)]
struct Matcher {
    options: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Property {
    id: String,
    value: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transformation {
    options: Organized,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Organized {
    rename_by_name: BTreeMap<String, String>,
}

/// All that is shipped, by the names of their files.
///
/// # Panics
/// When one is not as Grafana and this module want it.
#[must_use]
pub fn boards() -> BTreeMap<String, Board> {
    let folder = deploy("grafana/dashboards");
    let files = std::fs::read_dir(&folder).expect("a folder of dashboards");
    let files = files.map(|entry| entry.expect("an entry").path());
    files.map(|file| (stem(&file), read(&file))).collect()
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(file: &Path) -> Board {
    let text = std::fs::read_to_string(file).expect("a dashboard");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

impl Panel {
    /// The unit, by Grafana's name of it.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.field_config.defaults.unit
    }

    /// Digits behind the point, where they are set.
    #[must_use]
    pub fn decimals(&self) -> Option<usize> {
        self.field_config.defaults.decimals
    }

    /// Where its axis begins and ends, where that is set.
    #[must_use]
    pub fn limits(&self) -> (Option<f64>, Option<f64>) {
        (self.field_config.defaults.min, self.field_config.defaults.max)
    }

    /// What stands there when there is no number.
    #[must_use]
    pub fn no_value(&self) -> &str {
        self.field_config.defaults.no_value.as_deref().unwrap_or("no data")
    }

    /// Colours by value, in growing order.
    #[must_use]
    pub fn thresholds(&self) -> &[Step] {
        &self.field_config.defaults.thresholds.steps
    }

    /// Whether thresholds are drawn as lines.
    #[must_use]
    pub fn threshold_lines(&self) -> bool {
        self.field_config.defaults.custom.thresholds_style.mode == "line"
    }

    /// Whether series stand on top of each other.
    #[must_use]
    pub fn stacked(&self) -> bool {
        self.field_config.defaults.custom.stacking.mode == "normal"
    }

    /// Whether time has bars instead of lines.
    #[must_use]
    pub fn bars(&self) -> bool {
        self.field_config.defaults.custom.draw_style == "bars"
    }

    /// Whether a value holds until the next one.
    #[must_use]
    pub fn steps(&self) -> bool {
        self.field_config.defaults.custom.line_interpolation == "stepAfter"
    }

    /// The word for a value that has one.
    #[must_use]
    pub fn word(&self, value: f64) -> Option<&str> {
        let mappings = self.field_config.defaults.mappings.iter();
        mappings
            .filter_map(|mapping| mapping.options.get(&value.to_string()))
            .map(|text| text.text.as_str())
            .next()
    }

    /// Of a table: the heading of the column of this query, and its unit.
    #[must_use]
    pub fn column(&self, query: usize) -> (String, String) {
        let letter = char::from(b'A' + u8::try_from(query).unwrap_or_default());
        let name = self.renamed(&format!("Value #{letter}"));
        let fits = |over: &&Override| over.matcher.options == name;
        let properties = self.field_config.overrides.iter().filter(fits).flat_map(|over| &over.properties);
        let unit =
            properties.filter(|property| property.id == "unit").map(|property| property.value.clone()).next();
        (name, unit.unwrap_or_else(|| self.unit().to_owned()))
    }

    /// Of a table: the heading of the column of this label.
    #[must_use]
    pub fn renamed(&self, name: &str) -> String {
        let renames = self.transformations.iter().map(|each| &each.options.rename_by_name);
        let renamed = renames.filter_map(|names| names.get(name)).next();
        renamed.map_or_else(|| name.to_owned(), Clone::clone)
    }
}

/// What stands for the variables of dashboards.
#[derive(Debug, Clone)]
pub struct Variables {
    /// For `$__rate_interval`: at least four scrapes.
    pub rate_interval: String,
}

impl Query {
    /// The expression with all variables in place: every fleet, service and instance.
    #[must_use]
    pub fn ready(&self, variables: &Variables) -> String {
        let expression = self.expr.replace("$__rate_interval", &variables.rate_interval);
        ["$fleet", "$service", "$instance"]
            .iter()
            .fold(expression, |expression, variable| expression.replace(variable, ".*"))
    }

    /// What a series with these labels is called.
    #[must_use]
    pub fn legend(&self, labels: &BTreeMap<String, String>) -> String {
        let mut legend = self.legend_format.clone();
        while let Some((before, rest)) = legend.split_once("{{") {
            let Some((name, after)) = rest.split_once("}}") else { break };
            let value = labels.get(name.trim()).cloned().unwrap_or_default();
            legend = format!("{before}{value}{after}");
        }
        legend.trim().to_owned()
    }
}
