//! What a version asks to be allowed, and how much of it is granted.

use std::collections::BTreeMap;

use macula_wire::{Operation, Pattern};
use serde::{Deserialize, Serialize};

/// Patterns for each operation, by its word (`publish`, `subscribe`, …).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asks(BTreeMap<String, Vec<Pattern>>);

impl Asks {
    /// From pairs of an operation and what is asked of it.
    pub fn new(patterns: impl IntoIterator<Item = (Operation, Vec<Pattern>)>) -> Self {
        let mut asks = Self::default();
        for (operation, patterns) in patterns {
            asks.add(operation.word(), patterns);
        }
        asks
    }

    fn add(&mut self, word: &str, patterns: impl IntoIterator<Item = Pattern>) {
        let mut patterns = patterns.into_iter().peekable();
        if patterns.peek().is_none() {
            return;
        }
        let known = self.0.entry(word.to_owned()).or_default();
        known.extend(patterns);
        known.sort_unstable();
        known.dedup();
    }

    /// The patterns for one operation.
    pub fn patterns(&self, operation: Operation) -> &[Pattern] {
        self.0.get(operation.word()).map_or(&[], Vec::as_slice)
    }

    /// What of this is not covered by `granted`, pattern by pattern: a pattern of which some names are granted is all
    /// beyond.
    #[must_use]
    pub fn beyond(&self, granted: &Self) -> Self {
        let mut beyond = Self::default();
        for (word, patterns) in &self.0 {
            let held = granted.0.get(word).map_or(&[][..], Vec::as_slice);
            let is_new = |pattern: &&Pattern| !held.iter().any(|granted| granted.covers(pattern));
            beyond.add(word, patterns.iter().filter(is_new).cloned());
        }
        beyond
    }

    /// Both together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (word, patterns) in &other.0 {
            both.add(word, patterns.iter().cloned());
        }
        both
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line for each operation, as in a manifest: `publish = ["alerts.**"]`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(word, patterns)| {
            let quoted: Vec<String> = patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
            format!("{word} = [{}]", quoted.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(publish: &[&str], call: &[&str]) -> Asks {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Asks::new([(Operation::Publish, parse(publish)), (Operation::Call, parse(call))])
    }

    #[test]
    fn only_what_is_not_covered_is_beyond() {
        let granted = asks(&["alerts.**"], &[]);
        assert!(asks(&["alerts.kitchen", "alerts.*.x"], &[]).beyond(&granted).is_empty());
        let beyond = asks(&["alerts.kitchen", "other"], &["math.add"]).beyond(&granted);
        assert_eq!(beyond, asks(&["other"], &["math.add"]));
        assert_eq!(beyond.lines().collect::<Vec<_>>(), ["call = [\"math.add\"]", "publish = [\"other\"]"]);
        assert_eq!(asks(&["**"], &[]).beyond(&granted), asks(&["**"], &[]), "wider is all beyond");
        assert!(beyond.beyond(&granted.with(&beyond)).is_empty());
    }
}
