//! What a step brought about, beside what was expected of it.

use std::fmt;

use bytes::Bytes;
use macula_wire::{CallError, Message, Operation, Topic};

use crate::scenario::{Call, Published, Reply, Step};

/// What a step brought about.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) published: Vec<Message>,
    pub(crate) reply: Option<Result<Bytes, CallError>>,
    pub(crate) outcome: Option<&'static str>,
    pub(crate) logs: Vec<String>,
    pub(crate) calls: Vec<(Topic, Bytes)>,
    pub(crate) denied: Vec<(Operation, String)>,
    /// Why new settings were refused.
    pub(crate) refused: Option<String>,
}

/// Something that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Which step, from 1; 0 for the start.
    pub step: usize,
    /// What is different.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            0 => f.write_str(&self.what),
            step => write!(f, "step {step}: {}", self.what),
        }
    }
}

impl Observed {
    /// What is different, if anything.
    pub(crate) fn differences(&self, step: &Step) -> Vec<String> {
        let Step { publishes, reply, outcome, logs, calls, denied, refuses, .. } = step;
        let mut differences = Vec::new();
        if let Some(expected) = outcome
            && self.outcome != Some(expected)
        {
            differences.push(format!("outcome: expected {expected}, got {}", self.outcome.unwrap_or("nothing")));
        }
        if let Some(expected) = publishes {
            differences.extend(self.compare_published(expected));
        }
        if let Some(expected) = reply {
            differences.extend(self.compare_reply(expected));
        }
        if let Some(expected) = calls {
            differences.extend(self.compare_calls(expected));
        }
        if let Some(expected) = denied {
            let got: Vec<String> =
                self.denied.iter().map(|(operation, target)| format!("{} {target}", operation.word())).collect();
            if *expected != got {
                differences.push(format!("denied: expected [{}], got [{}]", expected.join(", "), got.join(", ")));
            }
        }
        match (refuses, &self.refused) {
            (None, None) => {}
            (Some(expected), Some(text)) if text.contains(expected) => {}
            (Some(expected), Some(text)) => differences.push(format!("refuses: expected {expected:?}, got {text:?}")),
            (Some(expected), None) => differences.push(format!("refuses: expected {expected:?}, and it takes them")),
            (None, Some(text)) => differences.push(format!("it refuses its new settings: {text}")),
        }
        let mut entries = self.logs.iter();
        for expected in logs {
            if !entries.any(|entry| entry.contains(expected)) {
                differences.push(format!("logs: expected {expected:?}, in order, among {:?}", self.logs));
                break;
            }
        }
        differences
    }

    fn compare_published(&self, expected: &[Published]) -> Option<String> {
        let got = || {
            let told = self
                .published
                .iter()
                .map(|message| format!("{} {}", message.topic, shortened(&String::from_utf8_lossy(&message.payload))));
            told.collect::<Vec<_>>()
        };
        if expected.len() != self.published.len() {
            let topics: Vec<_> = expected.iter().map(|published| published.topic.as_str()).collect();
            return Some(format!(
                "publishes: expected {} [{}], got {} {:?}",
                topics.len(),
                topics.join(", "),
                got().len(),
                got()
            ));
        }
        expected.iter().zip(&self.published).enumerate().find_map(|(index, (expected, message))| {
            let place = format!("publishes[{index}]");
            if expected.topic != message.topic {
                return Some(format!("{place}: expected topic {}, got {}", expected.topic, message.topic));
            }
            if let Some(retain) = expected.retain.filter(|retain| *retain != message.retained) {
                return Some(format!("{place} {}: expected retain = {retain}", expected.topic));
            }
            let difference = expected.payload.difference(&message.payload)?;
            Some(format!("{place} {}: {difference}", expected.topic))
        })
    }

    fn compare_reply(&self, expected: &Reply) -> Option<String> {
        let reply = self.reply.as_ref()?;
        let got = match reply {
            Ok(bytes) => format!("the answer {}", shortened(&String::from_utf8_lossy(bytes))),
            Err(CallError::Handler(error)) => format!("the error {error}"),
            Err(error) => format!("no answer: {error}"),
        };
        match (expected, reply) {
            (Reply { error: Some(code), .. }, Err(CallError::Handler(error))) if error.code == *code => None,
            (Reply { error: Some(code), .. }, _) => Some(format!("reply: expected the error {code}, got {got}")),
            (Reply { fails: Some(text), .. }, Err(error)) if error.to_string().contains(text) => None,
            (Reply { fails: Some(text), .. }, _) => Some(format!("reply: expected no answer ({text}), got {got}")),
            (Reply { payload, .. }, Ok(bytes)) => {
                payload.difference(bytes).map(|difference| format!("reply: {difference}"))
            }
            (_, Err(_)) => Some(format!("reply: expected an answer, got {got}")),
        }
    }

    fn compare_calls(&self, expected: &[Call]) -> Option<String> {
        if expected.len() != self.calls.len() {
            let got: Vec<_> = self.calls.iter().map(|(procedure, _)| procedure.as_str()).collect();
            return Some(format!("calls: expected {}, got {} [{}]", expected.len(), got.len(), got.join(", ")));
        }
        expected.iter().zip(&self.calls).enumerate().find_map(|(index, (expected, (procedure, bytes)))| {
            if expected.procedure != *procedure {
                return Some(format!("calls[{index}]: expected {}, got {procedure}", expected.procedure));
            }
            let difference = expected.payload.difference(bytes)?;
            Some(format!("calls[{index}] {procedure}: {difference}"))
        })
    }
}

/// Enough to see what it is.
fn shortened(text: &str) -> String {
    const MAX: usize = 200;
    if text.chars().count() <= MAX { text.to_owned() } else { text.chars().take(MAX).chain(['…']).collect() }
}
