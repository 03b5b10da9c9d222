//! A manifest as written, and the way from there to one that holds together.

use std::collections::BTreeMap;

use macula_wire::{Mcid, Operation, Pattern, PluginName, Topic, WhenFull};
use serde::Deserialize;
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{Asks, Limits, Manifest, ManifestSubscription, ManifestText, NAME_BYTES_MAX, name_from_stem, overlay};

/// Why a manifest was refused. Every text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No TOML, or a key or value that has no meaning here.
    #[error("{origin}, line {line}: {message}")]
    Malformed {
        /// Which manifest.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The file beside the component asks for more than the component does.
    #[error(
        "{origin}, line {line}: `{key}` may only narrow what the component asks for, and {pattern:?} is not covered by it"
    )]
    Wider {
        /// Which manifest.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// For example `publish`.
        key: &'static str,
        /// What was asked for.
        pattern: String,
    },
    /// Something that is opened at the start, without the right to it.
    #[error("{origin}, line {line}: {what:?} is not covered by `{key}`; add it there")]
    NotCovered {
        /// Which manifest.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// `subscribe` or `advertise`.
        key: &'static str,
        /// The pattern or procedure.
        what: String,
    },
}

type Texts = Option<Vec<Spanned<String>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Document {
    name: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    description: Option<Spanned<String>>,
    subscribe: Texts,
    publish: Texts,
    advertise: Texts,
    call: Texts,
    fetch: Texts,
    config: Option<Table>,
    limits: Option<Spanned<Table>>,
    subscriptions: Option<Vec<Subscription>>,
    procedures: Option<Vec<Procedure>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Subscription {
    pattern: Spanned<String>,
    #[serde(default)]
    when_full: WhenFull,
    queue_messages: Option<Spanned<u32>>,
    #[serde(default = "yes")]
    retained: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Procedure {
    procedure: Spanned<String>,
}

fn yes() -> bool {
    true
}

/// Where something was written.
#[derive(Debug, Clone)]
struct Place {
    origin: String,
    line: usize,
}

impl Place {
    fn malformed(&self, message: impl Into<String>) -> ManifestError {
        ManifestError::Malformed { origin: self.origin.clone(), line: self.line, message: message.into() }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
struct Placed<T>(T, Place);

/// One manifest, read: each value parsed on its own.
#[derive(Debug, Default)]
pub(super) struct Raw {
    name: Option<PluginName>,
    version: Option<String>,
    description: Option<String>,
    patterns: BTreeMap<&'static str, Vec<Placed<Pattern>>>,
    config: BTreeMap<String, String>,
    limits: Table,
    limits_place: Option<Place>,
    subscriptions: Option<Vec<Placed<ManifestSubscription>>>,
    procedures: Option<Vec<Placed<Topic>>>,
}

/// Reads one manifest: the text, or the table of it that these keys lead to.
pub(super) fn read(source: ManifestText<'_>, table: &[String]) -> Result<Raw, ManifestError> {
    let place = |offset: usize| Place {
        origin: source.origin.to_owned(),
        line: source.text.as_bytes()[..offset.min(source.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1,
    };
    let document = document(source.text, table).map_err(|error| {
        let message = error.message().replace('\n', "; ");
        place(error.span().map_or(0, |span| span.start)).malformed(message)
    })?;
    let reader = Reader { place: &place };
    reader.read(document)
}

/// Values keep their places in the whole text.
fn document(text: &str, table: &[String]) -> Result<Document, toml::de::Error> {
    let mut found = DeTable::parse(text)?;
    for key in table {
        let span = found.span();
        found = match found.into_inner().remove(key.as_str()).map(|value| (value.span(), value.into_inner())) {
            Some((span, DeValue::Table(inner))) => Spanned::new(span, inner),
            // Whoever reads the whole file has refused what is no table.
            Some(_) => return Ok(Document::default()),
            None => Spanned::new(span, DeTable::new()),
        };
    }
    let span = found.span();
    Document::deserialize(ValueDeserializer::from(Spanned::new(span, DeValue::Table(found.into_inner()))))
}

struct Reader<'a> {
    place: &'a dyn Fn(usize) -> Place,
}

impl Reader<'_> {
    fn read(&self, document: Document) -> Result<Raw, ManifestError> {
        let mut patterns = BTreeMap::new();
        for (operation, texts) in [
            (Operation::Subscribe, document.subscribe),
            (Operation::Publish, document.publish),
            (Operation::Advertise, document.advertise),
            (Operation::Call, document.call),
            (Operation::Fetch, document.fetch),
        ] {
            if let Some(texts) = texts {
                patterns.insert(operation.word(), self.patterns(operation, texts)?);
            }
        }
        let mut config = BTreeMap::new();
        flatten("", document.config.unwrap_or_default(), &mut config);
        Ok(Raw {
            name: document.name.map(|name| self.name(&name)).transpose()?,
            version: document.version.map(|text| self.line_of_text(text, 64)).transpose()?,
            description: document.description.map(|text| self.line_of_text(text, 1024)).transpose()?,
            patterns,
            config,
            limits_place: document.limits.as_ref().map(|limits| (self.place)(limits.span().start)),
            limits: document.limits.map(Spanned::into_inner).unwrap_or_default(),
            subscriptions: document.subscriptions.map(|all| self.subscriptions(all)).transpose()?,
            procedures: document.procedures.map(|all| self.procedures(&all)).transpose()?,
        })
    }

    fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        text: &Spanned<String>,
    ) -> Result<Placed<T>, ManifestError> {
        let place = (self.place)(text.span().start);
        match text.get_ref().parse() {
            Ok(value) => Ok(Placed(value, place)),
            Err(error) => Err(place.malformed(error.to_string())),
        }
    }

    fn name(&self, text: &Spanned<String>) -> Result<PluginName, ManifestError> {
        let name = text.get_ref().parse::<PluginName>().ok();
        let good = name.filter(|name| !name.is_empty() && name.as_str().len() <= NAME_BYTES_MAX);
        good.ok_or_else(|| {
            let place = (self.place)(text.span().start);
            let shown: String = text.get_ref().chars().take(80).collect();
            place.malformed(format!("{shown:?} is no plugin name: 1 to {NAME_BYTES_MAX} of a-z, 0-9 and '-'"))
        })
    }

    fn line_of_text(&self, text: Spanned<String>, bytes_max: usize) -> Result<String, ManifestError> {
        if text.get_ref().len() > bytes_max || text.get_ref().chars().any(char::is_control) {
            let place = (self.place)(text.span().start);
            return Err(place.malformed(format!("expected one line of at most {bytes_max} bytes")));
        }
        Ok(text.into_inner())
    }

    fn patterns(
        &self,
        operation: Operation,
        texts: Vec<Spanned<String>>,
    ) -> Result<Vec<Placed<Pattern>>, ManifestError> {
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            let Placed(pattern, place) = self.parse::<Pattern>(&text)?;
            if pattern.is_reserved() && operation != Operation::Subscribe {
                return Err(place.malformed(format!(
                    "{pattern} begins with '_', and such names are the system's: no plugin may {} them",
                    operation.word()
                )));
            }
            if operation == Operation::Fetch && pattern.as_str() != "**" && pattern.as_str().parse::<Mcid>().is_err() {
                return Err(place.malformed(format!(
                    "{:?} is no content id; `fetch` takes ids, or \"**\" for all",
                    pattern.as_str()
                )));
            }
            patterns.push(Placed(pattern, place));
        }
        Ok(patterns)
    }

    fn subscriptions(&self, all: Vec<Subscription>) -> Result<Vec<Placed<ManifestSubscription>>, ManifestError> {
        let mut subscriptions: Vec<Placed<ManifestSubscription>> = Vec::with_capacity(all.len());
        for one in all {
            let Placed(pattern, place) = self.parse::<Pattern>(&one.pattern)?;
            if subscriptions.iter().any(|other| other.0.pattern == pattern) {
                return Err(place.malformed(format!("{:?} is subscribed to twice", pattern.as_str())));
            }
            if let Some(number) = &one.queue_messages
                && !(1..=macula_wire::limits::QUEUE_MESSAGES_MAX).contains(number.get_ref())
            {
                let place = (self.place)(number.span().start);
                return Err(place.malformed("`queue-messages` is outside 1 to 65536"));
            }
            subscriptions.push(Placed(
                ManifestSubscription {
                    pattern,
                    when_full: one.when_full,
                    queue_messages: one.queue_messages.map(Spanned::into_inner),
                    retained: one.retained,
                },
                place,
            ));
        }
        Ok(subscriptions)
    }

    fn procedures(&self, all: &[Procedure]) -> Result<Vec<Placed<Topic>>, ManifestError> {
        let mut procedures: Vec<Placed<Topic>> = Vec::with_capacity(all.len());
        for one in all {
            let Placed(procedure, place) = self.parse::<Topic>(&one.procedure)?;
            if procedures.iter().any(|other| other.0 == procedure) {
                return Err(place.malformed(format!("{:?} is offered twice", procedure.as_str())));
            }
            procedures.push(Placed(procedure, place));
        }
        Ok(procedures)
    }
}

impl Raw {
    /// Lays another manifest of the same person over this one: it sets what it says.
    pub(super) fn overlaid_by(mut self, over: Self) -> Self {
        self.patterns.extend(over.patterns);
        // A value takes the place of a table, and a table that of a value.
        let is_below = |key: &str, above: &str| key.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'));
        self.config.retain(|key, _| !over.config.keys().any(|new| is_below(key, new) || is_below(new, key)));
        self.config.extend(over.config);
        overlay(&mut self.limits, &over.limits);
        Self {
            name: over.name.or(self.name),
            version: over.version.or(self.version),
            description: over.description.or(self.description),
            limits_place: over.limits_place.or(self.limits_place),
            subscriptions: over.subscriptions.or(self.subscriptions),
            procedures: over.procedures.or(self.procedures),
            ..self
        }
    }

    /// Lays the file beside the component over what the component asks: it may set and narrow, not widen.
    pub(super) fn narrowed_by(mut self, over: Self) -> Result<Self, ManifestError> {
        for (key, patterns) in over.patterns {
            let asked = self.patterns.get(key).map(Vec::as_slice).unwrap_or_default();
            if let Some(Placed(pattern, place)) =
                patterns.iter().find(|Placed(pattern, _)| !asked.iter().any(|own| own.0.covers(pattern)))
            {
                return Err(ManifestError::Wider {
                    origin: place.origin.clone(),
                    line: place.line,
                    key,
                    pattern: pattern.to_string(),
                });
            }
            self.patterns.insert(key, patterns);
        }
        self.config.extend(over.config);
        self.limits.extend(over.limits);
        Ok(Self {
            name: over.name.or(self.name),
            version: self.version.or(over.version),
            description: over.description.or(self.description),
            limits_place: over.limits_place.or(self.limits_place),
            subscriptions: over.subscriptions.or(self.subscriptions),
            procedures: over.procedures.or(self.procedures),
            ..self
        })
    }

    /// Checks what depends on more than one value.
    pub(super) fn validate(mut self, stem: &str) -> Result<Manifest, ManifestError> {
        let limits = self.limits()?;
        let mut take = |operation: Operation| -> Vec<Pattern> {
            let placed = self.patterns.remove(operation.word()).unwrap_or_default();
            placed.into_iter().map(|Placed(pattern, _)| pattern).collect()
        };
        let asks = Asks {
            subscribe: take(Operation::Subscribe),
            publish: take(Operation::Publish),
            advertise: take(Operation::Advertise),
            call: take(Operation::Call),
            fetch: take(Operation::Fetch),
        };
        let not_covered = |operation: Operation, place: Place, what: String| ManifestError::NotCovered {
            origin: place.origin,
            line: place.line,
            key: operation.word(),
            what,
        };
        let mut subscriptions = Vec::new();
        for Placed(subscription, place) in self.subscriptions.unwrap_or_default() {
            if !asks.covers(Operation::Subscribe, &subscription.pattern) {
                return Err(not_covered(Operation::Subscribe, place, subscription.pattern.to_string()));
            }
            subscriptions.push(subscription);
        }
        let mut procedures = Vec::new();
        for Placed(procedure, place) in self.procedures.unwrap_or_default() {
            if !asks.covers(Operation::Advertise, &procedure.clone().into()) {
                return Err(not_covered(Operation::Advertise, place, procedure.to_string()));
            }
            procedures.push(procedure);
        }
        Ok(Manifest {
            name: self.name.unwrap_or_else(|| name_from_stem(stem)),
            version: self.version.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            asks,
            config: self.config,
            limits,
            subscriptions,
            procedures,
        })
    }

    fn limits(&self) -> Result<Limits, ManifestError> {
        let place = self.limits_place.clone().unwrap_or(Place { origin: String::new(), line: 1 });
        let limits = Value::Table(self.limits.clone())
            .try_into::<Limits>()
            .map_err(|error| place.malformed(format!("[limits]: {}", error.message().replace('\n', "; "))))?;
        limits.check().map_err(|error| place.malformed(format!("[limits]: {error}")))?;
        Ok(limits)
    }
}

/// Tables become dotted keys, everything else text as `config.wit` has it.
fn flatten(prefix: &str, table: Table, config: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => flatten(&key, table, config),
            Value::String(text) => {
                config.insert(key, text);
            }
            list @ Value::Array(_) => {
                // A value that TOML could hold and JSON cannot (a float that is no number) becomes null.
                let json = serde_json::to_string(&list).unwrap_or_else(|_| "null".to_owned());
                config.insert(key, json);
            }
            plain => {
                config.insert(key, plain.to_string());
            }
        }
    }
}
