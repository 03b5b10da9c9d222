//! What a plugin asks for and how it is set up: `macula:manifest` in the component, and the file beside it.
//!
//! The section embedded in the component *asks*: names, patterns, defaults; it is part of the component's id. The file
//! beside it (`<stem>.toml`, or one named by whoever starts the plugin) sets configuration and limits and may take rights
//! away, never add any. For a component without a section, that file is the manifest. Both are TOML of one form;
//! unknown keys are errors. Specified in `docs/plugins/runtime.md`.

mod limits;
mod raw;

use std::collections::BTreeMap;

use macula_wire::{Operation, Pattern, PluginName, Topic, WhenFull};
use serde::Serialize;

pub use self::limits::Limits;
pub use self::raw::ManifestError;

/// Name of the custom section that carries a manifest.
pub const SECTION: &str = "macula:manifest";

/// Bytes of a plugin's name at most, so that it can be a segment of a topic.
const NAME_BYTES_MAX: usize = macula_wire::SEGMENT_BYTES_MAX;

/// Rights asked for: patterns for each operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Asks {
    /// Patterns to subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Topics to publish to.
    pub publish: Vec<Pattern>,
    /// Procedures to offer.
    pub advertise: Vec<Pattern>,
    /// Procedures to call.
    pub call: Vec<Pattern>,
    /// Content to fetch: ids, or `**` for all.
    pub fetch: Vec<Pattern>,
}

impl Asks {
    /// The patterns for one operation.
    pub fn patterns(&self, operation: Operation) -> &[Pattern] {
        match operation {
            Operation::Publish => &self.publish,
            Operation::Subscribe => &self.subscribe,
            Operation::Advertise => &self.advertise,
            Operation::Call => &self.call,
            Operation::Fetch => &self.fetch,
            // Nothing else is asked for by name.
            _ => &[],
        }
    }

    /// The patterns as people read them, by operation; operations without any are left out.
    pub fn by_operation(&self) -> BTreeMap<String, Vec<String>> {
        let all = Operation::ALL.into_iter().map(|operation| {
            let patterns: Vec<String> = self.patterns(operation).iter().map(ToString::to_string).collect();
            (operation.word().to_owned(), patterns)
        });
        all.filter(|(_, patterns)| !patterns.is_empty()).collect()
    }

    fn covers(&self, operation: Operation, pattern: &Pattern) -> bool {
        self.patterns(operation).iter().any(|own| own.covers(pattern))
    }
}

/// A subscription that is open before the plugin's `init` runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestSubscription {
    /// What to receive.
    pub pattern: Pattern,
    /// What happens when the queue is full.
    pub when_full: WhenFull,
    /// Messages that may wait; the plugin's limit when not given.
    pub queue_messages: Option<u32>,
    /// Begin with stored last values.
    pub retained: bool,
}

/// A manifest that holds together: grammar checked, rights covered, limits within bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The plugin's name.
    pub name: PluginName,
    /// Its version; empty when it has none.
    pub version: String,
    /// One sentence for people; may be empty.
    pub description: String,
    /// What it wants to be allowed.
    pub asks: Asks,
    /// Settings, by dotted key.
    pub config: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// Opened before `init`.
    pub subscriptions: Vec<ManifestSubscription>,
    /// Offered before `init`.
    pub procedures: Vec<Topic>,
}

/// Text of a manifest, and what to call it in errors.
#[derive(Debug, Clone, Copy)]
pub struct ManifestText<'a> {
    /// For example the file's path.
    pub origin: &'a str,
    /// TOML.
    pub text: &'a str,
}

/// A manifest as whoever runs a plugin writes it: a file, or a table of one that holds other things too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLayer {
    /// What to call it in errors, for example the file's path.
    pub origin: String,
    /// The whole file, TOML: errors have its lines.
    pub text: String,
    /// The keys that lead to the table; none for the file as a whole. Where they lead to none, nothing is said.
    pub table: Vec<String>,
}

impl Manifest {
    /// Puts the embedded section and the file beside the component together; `stem` names a plugin without a name.
    ///
    /// # Errors
    /// The first rule that is broken, with the line it is on.
    pub fn resolve(
        embedded: Option<&str>,
        beside: Option<ManifestText<'_>>,
        stem: &str,
    ) -> Result<Self, ManifestError> {
        let beside = beside.map(|beside| raw::read(beside, &[])).transpose()?;
        Self::of(embedded, beside, stem)
    }

    /// The same with several layers of whoever runs the plugin, of which each sets what it says in place of those before.
    ///
    /// # Errors
    /// The first rule that is broken, with the line of the layer that breaks it.
    pub fn resolve_layers(embedded: Option<&str>, layers: &[ManifestLayer], stem: &str) -> Result<Self, ManifestError> {
        let mut beside: Option<raw::Raw> = None;
        for ManifestLayer { origin, text, table } in layers {
            let layer = raw::read(ManifestText { origin, text }, table)?;
            beside = Some(match beside {
                None => layer,
                Some(before) => before.overlaid_by(layer),
            });
        }
        Self::of(embedded, beside, stem)
    }

    fn of(embedded: Option<&str>, beside: Option<raw::Raw>, stem: &str) -> Result<Self, ManifestError> {
        let embedded =
            embedded.map(|text| raw::read(ManifestText { origin: "the embedded manifest", text }, &[])).transpose()?;
        match (embedded, beside) {
            (Some(base), Some(over)) => base.narrowed_by(over)?.validate(stem),
            (Some(only), None) | (None, Some(only)) => only.validate(stem),
            (None, None) => raw::read(ManifestText { origin: "", text: "" }, &[])?.validate(stem),
        }
    }
}

/// Puts the values of one table over those of another, tables within tables: settings of whoever runs a plugin over those
/// of whoever wrote it.
pub fn overlay(base: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => overlay(base, over),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

/// A plugin name made of a file's stem: lower case, everything else becomes `-`.
fn name_from_stem(stem: &str) -> PluginName {
    let name: String = stem
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(NAME_BYTES_MAX)
        .collect();
    match name.parse::<PluginName>() {
        Ok(name) if !name.is_empty() => name,
        _ => "plugin".parse().expect("a constant of the grammar"),
    }
}

#[cfg(test)]
mod tests;
