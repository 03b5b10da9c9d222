//! The plugin's manifest, as far as the fake host acts by it.

use super::pattern;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a manifest says. As with the real host, a key that does not exist is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(rename = "description")]
    _description: String,
    pub(super) subscribe: Vec<String>,
    pub(super) publish: Vec<String>,
    pub(super) advertise: Vec<String>,
    pub(super) call: Vec<String>,
    pub(super) fetch: Vec<String>,
    config: toml::Table,
    pub(super) limits: Limits,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) procedures: Vec<Procedure>,
}

/// Of the limits, a test meets these two; the others are about memory, time and queues.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) timers: usize,
    pub(super) subscriptions: usize,
    #[serde(rename = "memory-mib")]
    _memory_mib: u32,
    #[serde(rename = "handler-ms")]
    _handler_ms: u32,
    #[serde(rename = "queue-messages")]
    _queue_messages: u32,
    #[serde(rename = "log-bytes-per-s")]
    _log_bytes_per_s: u32,
    #[serde(rename = "cpu-ms-per-s")]
    _cpu_ms_per_s: u32,
    #[serde(rename = "publish-per-s")]
    _publish_per_s: u32,
    #[serde(rename = "host-calls-per-s")]
    _host_calls_per_s: u32,
    #[serde(rename = "evict-after-s")]
    _evict_after_s: u32,
    #[serde(rename = "instances")]
    _instances: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timers: 256,
            subscriptions: 64,
            _memory_mib: 64,
            _handler_ms: 5_000,
            _queue_messages: 1_024,
            _log_bytes_per_s: 65_536,
            _cpu_ms_per_s: 0,
            _publish_per_s: 0,
            _host_calls_per_s: 0,
            _evict_after_s: 0,
            _instances: 1,
        }
    }
}

/// Nothing is ever full here, so all but the pattern is only checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    pub(super) pattern: String,
    #[serde(rename = "when-full")]
    _when_full: Option<WhenFull>,
    #[serde(rename = "queue-messages")]
    _queue_messages: Option<u32>,
    #[serde(rename = "retained")]
    _retained: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WhenFull {
    DropOldest,
    LatestOnly,
    Block,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Procedure {
    pub(super) procedure: String,
}

impl Manifest {
    /// # Panics
    /// When the host would refuse the manifest.
    pub(super) fn parse(text: &str) -> Self {
        let manifest: Self = toml::from_str(text).unwrap_or_else(|cause| panic!("macula.toml: {cause}"));
        for list in [&manifest.subscribe, &manifest.publish, &manifest.advertise, &manifest.call, &manifest.fetch] {
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
    fn everything_a_manifest_may_say_is_understood() {
        let manifest = Manifest::parse(
            r#"
            name = "a"
            version = "1"
            description = "d"
            subscribe = ["a.**"]
            publish = []
            advertise = ["p.*"]
            call = []
            [limits]
            memory-mib = 64
            handler-ms = 5000
            timers = 3
            subscriptions = 2
            queue-messages = 1024
            log-bytes-per-s = 65536
            cpu-ms-per-s = 100
            publish-per-s = 1000
            host-calls-per-s = 100000
            evict-after-s = 60
            instances = 1
            [[subscriptions]]
            pattern = "a.b"
            when-full = "latest-only"
            queue-messages = 5
            retained = false
            [[procedures]]
            procedure = "p.q"
            "#,
        );
        assert_eq!((manifest.limits.timers, manifest.limits.subscriptions), (3, 2));
    }

    #[test]
    #[should_panic(expected = "unknown field `subscription`")]
    fn a_misspelt_key_is_an_error() {
        Manifest::parse("[[subscription]]\npattern = \"a\"");
    }

    #[test]
    #[should_panic(expected = "[[subscriptions]] has \"a.b\", for which `subscribe` does not ask")]
    fn a_subscription_must_be_asked_for() {
        Manifest::parse("subscribe = [\"a\"]\n[[subscriptions]]\npattern = \"a.b\"");
    }
}
