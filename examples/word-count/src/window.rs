//! The words of one window of time.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Different words counted in a window at most; further ones count as `others`. With [`WORD_BYTES_MAX`] this bounds both
/// the memory and the published message.
pub const DISTINCT_MAX: usize = 1_000;

/// Longer words count as `others`.
pub const WORD_BYTES_MAX: usize = 64;

/// What is published when it closes, and handed over to a new version.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Window {
    /// When it closed, in milliseconds since 1970-01-01 UTC.
    pub ended_ms: u64,
    /// All words.
    pub words: u64,
    /// How often each word came, in lower case.
    pub counts: BTreeMap<String, u64>,
    /// Words without a count of their own.
    pub others: u64,
}

impl Window {
    /// Counts the words of a text. Words are runs of letters, digits and apostrophes.
    pub fn count(&mut self, text: &str) {
        let is_part = |character: char| character.is_alphanumeric() || character == '\'';
        for word in text.split(|character| !is_part(character)).filter(|word| !word.is_empty()) {
            self.words += 1;
            self.count_word(word.to_lowercase());
        }
    }

    fn count_word(&mut self, word: String) {
        if let Some(count) = self.counts.get_mut(&word) {
            *count += 1;
        } else if self.counts.len() < DISTINCT_MAX && word.len() <= WORD_BYTES_MAX {
            self.counts.insert(word, 1);
        } else {
            self.others += 1;
        }
    }
}
