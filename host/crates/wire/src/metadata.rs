//! Named values that travel with a message or a call.

use serde::{Deserialize, Serialize};

use crate::limits::{METADATA_BYTES_MAX, METADATA_PAIRS_MAX};

/// Names that later versions of the platform may give a meaning; a sender may not invent them.
const RESERVED_PREFIX: &str = "macula-";
/// Bytes of one name at most.
const NAME_BYTES_MAX: usize = 64;

/// At most 16 pairs, 4,096 bytes together; names are 1–64 characters of `[a-z0-9-]`, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, String)>", into = "Vec<(String, String)>")]
pub struct Metadata(Vec<(String, String)>);

/// Why pairs are no [`Metadata`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// More than 16 pairs.
    #[error("{0} pairs of metadata, at most {METADATA_PAIRS_MAX} are allowed")]
    TooManyPairs(usize),
    /// More than 4,096 bytes of names and values.
    #[error("{0} bytes of metadata, at most {METADATA_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// A name outside the grammar.
    #[error("metadata name {0:?} is not 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and '-'")]
    Name(String),
    /// The same name twice.
    #[error("metadata name {0:?} is given twice")]
    Duplicate(String),
    /// A name that belongs to the platform and that this version does not know.
    #[error("metadata name {0:?} is reserved for the platform")]
    Reserved(String),
}

impl Metadata {
    /// Checks and takes pairs.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(pairs: Vec<(String, String)>) -> Result<Self, MetadataError> {
        if pairs.len() > METADATA_PAIRS_MAX {
            return Err(MetadataError::TooManyPairs(pairs.len()));
        }
        let bytes = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            return Err(MetadataError::TooLarge(bytes));
        }
        for (index, (name, _)) in pairs.iter().enumerate() {
            let grammar = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(grammar) {
                return Err(MetadataError::Name(name.chars().take(80).collect()));
            }
            if name.starts_with(RESERVED_PREFIX) {
                return Err(MetadataError::Reserved(name.clone()));
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(MetadataError::Duplicate(name.clone()));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All pairs, in the order given.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<(String, String)>> for Metadata {
    type Error = MetadataError;
    fn try_from(pairs: Vec<(String, String)>) -> Result<Self, MetadataError> {
        Self::new(pairs)
    }
}

impl From<Metadata> for Vec<(String, String)> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Result<Metadata, MetadataError> {
        Metadata::new(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect())
    }

    #[test]
    fn rules() {
        assert_eq!(pairs(&[("unit", "celsius")]).unwrap().value("unit"), Some("celsius"));
        assert!(matches!(pairs(&[("Unit", "")]), Err(MetadataError::Name(_))));
        assert!(matches!(pairs(&[("", "")]), Err(MetadataError::Name(_))));
        assert!(matches!(pairs(&[("a", ""), ("a", "")]), Err(MetadataError::Duplicate(_))));
        assert!(matches!(pairs(&[("macula-x", "")]), Err(MetadataError::Reserved(_))));
        assert!(matches!(pairs(&[("a", &"x".repeat(4096))]), Err(MetadataError::TooLarge(4097))));
        let many: Vec<_> = (0..17).map(|n| (format!("n{n}"), String::new())).collect();
        assert_eq!(Metadata::new(many), Err(MetadataError::TooManyPairs(17)));
    }
}
