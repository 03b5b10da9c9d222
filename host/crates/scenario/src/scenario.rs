//! The form of a scenario, and reading one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use macula_files::ReadError;
use macula_runtime::HandlerOutcome;
use macula_wire::{Operation, Pattern, Topic};
use serde::{Deserialize, Serialize, de};

use crate::Payload;

/// A scenario is text that a person writes.
pub const SCENARIO_BYTES_MAX: u64 = 4 << 20;

/// What a plugin is given, and what is expected of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// For people; the file's name without it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Settings over those of the manifest.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub config: toml::Table,
    /// What others in the mesh answer when the plugin calls them, by procedure.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<Topic, Answer>,
    /// Topics that have a stored last value before the plugin starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retained: Vec<Message>,
    /// One after another; the next begins when the plugin has nothing more to do.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One step: exactly one thing that happens, and what is expected to come of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// A message comes from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Somebody calls the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// Time passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advance: Option<Timing>,
    /// Something goes wrong from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// A new version, the same component, takes over with the state of the old one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub replace: bool,
    /// Settings change, over those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<toml::Table>,
    /// What others answer from this step on, over the scenario's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<Topic, Answer>,
    // What is expected. What is not mentioned is not looked at.
    /// All that the plugin published, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publishes: Option<Vec<Published>>,
    /// The answer to the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// What became of the message: ack, retry, reject, dead-letter or trap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Texts that the log has, each in an entry of its own, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// All calls that the plugin made, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<Call>>,
    /// Part of the text with which it refuses its new settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<String>,
    /// What it was denied, as `publish alerts.kitchen`, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Vec<String>>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Message {
    /// Where.
    pub topic: Topic,
    /// What.
    #[serde(flatten)]
    pub payload: Payload,
    /// Media type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// What its publisher added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A message that is expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Where.
    pub topic: Topic,
    /// What; without it, anything.
    #[serde(flatten)]
    pub payload: Payload,
    /// Kept as the topic's last value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
}

/// A call, made or expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// What is called.
    pub procedure: Topic,
    /// With what.
    #[serde(flatten)]
    pub payload: Payload,
    /// How long an answer is wanted; 5 s without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timing>,
}

/// The answer that a call is expected to get.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// An answer.
    #[serde(flatten)]
    pub payload: Payload,
    /// The code of the handler's error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Part of the text of why there was no answer: `not-run(…)`, `maybe-run(…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// What somebody else answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The answer.
    #[serde(flatten)]
    pub payload: Payload,
    /// A handler's error with this code, in place of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Timing>,
}

/// What goes wrong; one thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fault {
    /// A right that the plugin has no more: `publish alerts.**`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<Right>,
    /// A right that it has again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Right>,
    /// Messages that the plugin publishes there get lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<Pattern>,
    /// The next messages that the plugin publishes are refused: unavailable, timeout, or quota-exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse: Option<String>,
    /// Messages from outside, and answers to calls, come so much later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Timing>,
    /// The next handler that runs traps.
    #[serde(default, skip_serializing_if = "is_false")]
    pub trap: bool,
}

/// A right, as it is written: an operation and a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Right {
    /// What may be done.
    pub operation: Operation,
    /// Where.
    pub pattern: Pattern,
}

/// A span of time, as it is written: `250ms`, `10s`, `5min`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing(pub Duration);

/// Why a file is no scenario.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no TOML, or says something that scenarios do not have.
    #[error("{}: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What, and in which line.
        why: String,
    },
    /// A step is not one.
    #[error("{}: step {step}: {why}", path.display())]
    Step {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        step: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Scenario {
    /// Reads one.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        Self::parse(&macula_files::read_text(path, SCENARIO_BYTES_MAX)?, path)
    }

    /// Reads one from its text; `path` is what it is called in errors.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Form {
            path: path.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })?;
        for (index, step) in scenario.steps.iter().enumerate() {
            let wrong = |why: String| ScenarioError::Step { path: path.to_owned(), step: index + 1, why };
            step.check().map_err(wrong)?;
        }
        let wrong = |why| ScenarioError::Form { path: path.to_owned(), why };
        check_answers(&scenario.answers).map_err(wrong)?;
        if scenario.steps.is_empty() {
            return Err(wrong("it has no steps, and would say nothing".to_owned()));
        }
        Ok(scenario)
    }

    /// Its text, as a person would write it: what belongs together in a line, and first what happens.
    ///
    /// # Errors
    /// When TOML cannot say it: it has no null, and no integer above 64 bits.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        const HAPPENS: [&str; 6] = ["message", "call", "advance", "fault", "replace", "config"];
        let mut table = toml::Table::try_from(self)?;
        let mut lists = ["retained", "steps"].map(|name| (name, table.remove(name)));
        let answers = table.remove("answers");
        let mut text = toml::to_string(&table)?;
        if let Some(toml::Value::Table(answers)) = answers {
            text += "\n[answers]\n";
            for (procedure, answer) in answers {
                text += &format!("{} = {answer}\n", toml::Value::String(procedure));
            }
        }
        for (name, list) in &mut lists {
            for item in list.iter_mut().filter_map(toml::Value::as_array_mut).flatten() {
                let Some(item) = item.as_table_mut() else { continue };
                text += &format!("\n[[{name}]]\n");
                let first = HAPPENS.iter().filter_map(|key| item.remove_entry(*key)).collect::<Vec<_>>();
                let rest = std::mem::take(item);
                for (key, value) in first.into_iter().chain(rest) {
                    text += &format!("{key} = {value}\n");
                }
            }
        }
        Ok(text)
    }
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let happens = [
            self.message.is_some(),
            self.call.is_some(),
            self.advance.is_some(),
            self.fault.is_some(),
            self.replace,
            self.config.is_some(),
        ];
        if happens.iter().filter(|happens| **happens).count() != 1 {
            return Err("exactly one of message, call, advance, fault, replace and config has to happen".to_owned());
        }
        let Self { publishes, reply, outcome, calls, .. } = self;
        if reply.is_some() && self.call.is_none() {
            return Err("a reply is expected of nothing but a call".to_owned());
        }
        if self.refuses.is_some() && self.config.is_none() {
            return Err("nothing is refused but new settings: config".to_owned());
        }
        if outcome.is_some() && self.message.is_none() {
            return Err("an outcome is expected of nothing but a message".to_owned());
        }
        let outcomes = HandlerOutcome::ALL.map(HandlerOutcome::word);
        if let Some(outcome) = outcome.as_deref().filter(|outcome| !outcomes.contains(outcome)) {
            return Err(format!("{outcome:?} is no outcome; there are {}", outcomes.join(", ")));
        }
        let payloads = self.message.iter().map(|message| &message.payload);
        let payloads = payloads.chain(self.call.iter().map(|call| &call.payload));
        let payloads = payloads.chain(publishes.iter().flatten().map(|published| &published.payload));
        let payloads = payloads.chain(calls.iter().flatten().map(|call| &call.payload));
        let mut payloads = payloads.chain(reply.iter().map(|reply| &reply.payload));
        payloads.try_for_each(Payload::check)?;
        check_answers(&self.answers)?;
        self.fault.as_ref().map_or(Ok(()), Fault::check)
    }
}

fn check_answers(answers: &BTreeMap<Topic, Answer>) -> Result<(), String> {
    let mut answers = answers.iter();
    answers.try_for_each(|(procedure, answer)| {
        answer.payload.check().map_err(|why| format!("answer of {procedure}: {why}"))
    })
}

impl Fault {
    fn check(&self) -> Result<(), String> {
        let given = [
            self.deny.is_some(),
            self.allow.is_some(),
            self.drop.is_some(),
            self.refuse.is_some(),
            self.delay.is_some(),
            self.trap,
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err("a fault is exactly one of deny, allow, drop, refuse, delay and trap".to_owned());
        }
        match self.refuse.as_deref() {
            None | Some("unavailable" | "timeout" | "quota-exceeded") => Ok(()),
            Some(other) => Err(format!("{other:?} is no refusal; there are unavailable, timeout, quota-exceeded")),
        }
    }
}

impl std::str::FromStr for Right {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.trim_start_matches("/mesh/").split_once(' ');
        let (word, pattern) = words.ok_or_else(|| format!("{text:?} is no right; one is: publish alerts.**"))?;
        let operation = Operation::ALL.into_iter().find(|operation| operation.word() == word);
        let operation = operation.ok_or_else(|| format!("{word:?} is nothing that a plugin may do"))?;
        Ok(Self { operation, pattern: pattern.trim().parse().map_err(|error| format!("{error}"))? })
    }
}

impl std::str::FromStr for Timing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is no time; one is: 250ms, 10s, 5min, 1h");
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
        let number: u64 = text[..digits].parse().map_err(|_| expected())?;
        let milliseconds = match text[digits..].trim() {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" | "min" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        // Longer than anything that a host does.
        let milliseconds = milliseconds.filter(|milliseconds| *milliseconds <= 366 * 24 * 3_600_000);
        Ok(Self(Duration::from_millis(milliseconds.ok_or_else(expected)?)))
    }
}

impl std::fmt::Display for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds.is_multiple_of(1000) {
            write!(f, "{}s", milliseconds / 1000)
        } else {
            write!(f, "{milliseconds}ms")
        }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.operation.word(), self.pattern)
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

as_text!(Right, Timing);

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Scenario::parse(text, Path::new("a.toml")).unwrap_err().to_string()
    }

    #[test]
    fn everything_a_scenario_may_say_is_read_and_written() {
        let text = r#"
            description = "all of it"
            [config]
            threshold = 25.0
            [answers."stock.count"]
            json = { count = 3 }
            delay = "250ms"
            [[retained]]
            topic = "a.last"
            text = "x"
            [[steps]]
            message = { topic = "a.b", json = [1, 2], content-type = "application/json", metadata = { k = "v" } }
            publishes = [{ topic = "c.d", text = "x", retain = true }, { topic = "c.e" }]
            outcome = "ack"
            logs = ["done"]
            calls = [{ procedure = "stock.count" }]
            denied = ["publish x.y"]
            [[steps]]
            call = { procedure = "p.q", base64 = "AAA=", timeout = "1s" }
            reply = { error = "out-of-range" }
            [[steps]]
            advance = "5m"
            [[steps]]
            fault = { deny = "publish c.**" }
            [[steps]]
            replace = true
            answers."stock.count" = { json = { count = 4 } }
            [[steps]]
            config = { threshold = 30.0, "more.of.it" = [1, 2] }
            refuses = "too high"
        "#;
        let scenario = Scenario::parse(text, Path::new("a.toml")).unwrap();
        assert_eq!(scenario.steps.len(), 6);
        let written = scenario.to_toml().unwrap();
        assert_eq!(Scenario::parse(&written, Path::new("b.toml")).unwrap(), scenario, "{written}");
        assert!(written.contains("\n[[steps]]\nadvance = \"300s\"\n"), "{written}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert!(refused("description = \"nothing\"").contains("it has no steps"));
        let text = refused("[[steps]]\nmessage = { topic = \"a\" }\nexpects = 1");
        assert!(text.starts_with("a.toml:") && text.contains("line 3") && text.contains("expects"), "{text}");
        for (step, expected) in [
            ("", "step 1: exactly one of message, call"),
            ("advance = \"1s\"\nreplace = true", "step 1: exactly one of message, call"),
            ("advance = \"1 week\"", "no time"),
            ("advance = \"1s\"\nreply = {}", "nothing but a call"),
            ("advance = \"1s\"\noutcome = \"ack\"", "nothing but a message"),
            ("message = { topic = \"a\" }\noutcome = \"fine\"", "no outcome"),
            ("replace = true\nrefuses = \"no\"", "nothing is refused but new settings"),
            ("message = { topic = \"a b\" }", "a b"),
            ("message = { topic = \"a\", text = \"x\", json = 1 }", "one of text, json and base64"),
            ("fault = { deny = \"fly a.b\" }", "nothing that a plugin may do"),
            ("fault = { deny = \"publish\" }", "no right"),
            ("fault = { trap = true, drop = \"a\" }", "a fault is exactly one"),
            ("fault = { refuse = \"no\" }", "no refusal"),
            ("fault = { explode = true }", "explode"),
        ] {
            let text = refused(&format!("[[steps]]\n{step}"));
            assert!(text.contains(expected), "{step}: {text}");
        }
    }
}
