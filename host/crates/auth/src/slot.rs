//! Deployment slots as delegations name them.

use std::{fmt, str::FromStr, sync::Arc};

use macula_wire::SEGMENT_BYTES_MAX;

use crate::{Namespace, NamespaceError};

/// A place for a deployed plugin: a namespace and a label, `io.example.app/alerts`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(Arc<str>);

/// Why text is no [`Slot`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// Not two parts with a `/` between them, or a label that is none.
    #[error("{0:?} is no slot (expected a namespace and a label of a-z, 0-9 and '-', like io.example.app/alerts)")]
    Form(String),
    /// What stands before the `/` is no namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl Slot {
    /// The slot as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        let form = || SlotError::Form(text.chars().take(80).collect());
        let (namespace, label) = text.split_once('/').ok_or_else(form)?;
        namespace.parse::<Namespace>()?;
        let is_label = (1..=SEGMENT_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if is_label { Ok(Self(text.into())) } else { Err(form()) }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        assert_eq!("io.example.app/alerts".parse::<Slot>().unwrap().as_str(), "io.example.app/alerts");
        for bad in ["io.example.app", "/alerts", "io.example/", "io.example/a/b", "io.example/A", "io.Example/a"] {
            assert!(bad.parse::<Slot>().is_err(), "{bad}");
        }
    }
}
