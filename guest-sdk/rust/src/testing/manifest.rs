//! The plugin's manifest, as far as the fake host acts by it.

use super::pattern;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a manifest says. Keys that are not known here are left to the real host.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) subscribe: Vec<String>,
    pub(super) publish: Vec<String>,
    pub(super) advertise: Vec<String>,
    pub(super) call: Vec<String>,
    config: toml::Table,
    pub(super) limits: Limits,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) procedures: Vec<Procedure>,
}

#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Limits {
    pub(super) timers: usize,
    pub(super) subscriptions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timers: 256, subscriptions: 64 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Subscription {
    pub(super) pattern: String,
    #[expect(dead_code, reason = "checked for its spelling, not acted on: nothing is ever full here")]
    when_full: Option<WhenFull>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WhenFull {
    DropOldest,
    LatestOnly,
    Block,
}

#[derive(Debug, Deserialize)]
pub(super) struct Procedure {
    pub(super) procedure: String,
}

impl Manifest {
    /// # Panics
    /// When the host would refuse the manifest.
    pub(super) fn parse(text: &str) -> Self {
        let manifest: Self = toml::from_str(text).unwrap_or_else(|cause| panic!("macula.toml: {cause}"));
        for list in [&manifest.subscribe, &manifest.publish, &manifest.advertise, &manifest.call] {
            for entry in list {
                assert!(pattern::is_pattern(entry), "macula.toml: {entry:?} is not a pattern");
            }
        }
        for Subscription { pattern, .. } in &manifest.subscriptions {
            assert!(
                manifest.subscribe.iter().any(|grant| pattern::covers(grant, pattern)),
                "macula.toml: [[subscriptions]] has {pattern:?}, for which `subscribe` does not ask"
            );
        }
        for Procedure { procedure } in &manifest.procedures {
            assert!(
                manifest.advertise.iter().any(|grant| pattern::covers(grant, procedure)),
                "macula.toml: [[procedures]] has {procedure:?}, for which `advertise` does not ask"
            );
        }
        manifest
    }

    /// The settings as a plugin reads them: dotted keys, text values.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        flatten("", &self.config, &mut settings);
        settings
    }
}

fn flatten(prefix: &str, table: &toml::Table, settings: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        let text = match value {
            toml::Value::Table(inner) => {
                flatten(&format!("{key}."), inner, settings);
                continue;
            }
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(_) => serde_json::to_string(value).expect("TOML lists can be written as JSON"),
            other => other.to_string(),
        };
        settings.insert(key, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_text_under_dotted_keys() {
        let text = "[config]\na = 30.0\nb.c = \"x\"\nd = [1, \"two\"]\n[config.e.f]\ng = true";
        let settings: Vec<(String, String)> = Manifest::parse(text).settings().into_iter().collect();
        let expected = [("a", "30.0"), ("b.c", "x"), ("d", "[1,\"two\"]"), ("e.f.g", "true")];
        assert_eq!(settings, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    #[should_panic(expected = "[[subscriptions]] has \"a.b\", for which `subscribe` does not ask")]
    fn a_subscription_must_be_asked_for() {
        Manifest::parse("subscribe = [\"a\"]\n[[subscriptions]]\npattern = \"a.b\"");
    }
}
