//! Namespaces: the names that somebody other than the realm's root may own.

use std::{fmt, str::FromStr, sync::Arc};

use macula_wire::{Pattern, SEGMENT_BYTES_MAX, SEGMENTS_MAX, Topic};

/// Bytes of a namespace at most, as of a DNS name.
const NAMESPACE_BYTES_MAX: usize = 253;
/// What a namespace's identifier begins with.
const DID_PREFIX: &str = "did:macula:";

/// The start of names, by whole labels: `io.example` holds `io.example` itself and everything below it.
///
/// 1 to 15 labels of `[a-z0-9_-]{1,63}`, at most 253 bytes; the first does not begin with `_`. Written as
/// `did:macula:io.example`. Other spellings are refused, never folded: two names that differ are two names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

/// Why text is no [`Namespace`]; the text is quoted, cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// Nothing, or two dots in a row, or one at an end.
    #[error("{0:?} has an empty label")]
    EmptyLabel(String),
    /// A character that no namespace has: upper case, another alphabet, `%`.
    #[error("{text:?} contains {character:?}; labels of a namespace are made of a-z, 0-9, '-' and '_'")]
    Character {
        /// What was given.
        text: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Too many labels, one above 63 characters, or too long in all.
    #[error("{0:?} is too long for a namespace")]
    TooLong(String),
    /// The system's names belong to no namespace.
    #[error("{0:?} begins with '_', and those names are the system's")]
    Reserved(String),
    /// A DID of another method, or with a path, query or fragment.
    #[error("{0:?} is no did:macula")]
    Did(String),
}

impl NamespaceError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        "InvalidName"
    }
}

impl Namespace {
    /// The namespace as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads `did:macula:<namespace>`.
    ///
    /// # Errors
    /// See [`NamespaceError`].
    pub fn from_did(text: &str) -> Result<Self, NamespaceError> {
        let name = text.strip_prefix(DID_PREFIX).ok_or_else(|| NamespaceError::Did(cut(text)))?;
        name.parse()
    }

    /// `did:macula:<namespace>`.
    pub fn did(&self) -> String {
        format!("{DID_PREFIX}{}", self.0)
    }

    /// The two patterns that make it up: the name itself, and everything below.
    pub fn patterns(&self) -> [Pattern; 2] {
        let itself = self.0.parse().expect("a namespace is a pattern");
        [itself, format!("{}.**", self.0).parse().expect("a namespace has room for one more segment")]
    }

    /// Whether `other` lies below, by whole labels.
    pub fn is_above(&self, other: &Self) -> bool {
        other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The namespace that these patterns make up, if they do.
    pub(crate) fn of_patterns(patterns: &[Pattern]) -> Option<Self> {
        let [one, other] = patterns else { return None };
        let (itself, below) = if one.is_literal() { (one, other) } else { (other, one) };
        let namespace: Self = itself.as_str().parse().ok()?;
        (namespace.patterns()[1] == *below).then_some(namespace)
    }
}

/// Whether a name is spelled as names in an owned namespace are: in lower case.
pub(crate) fn is_canonical(name: &str) -> bool {
    !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(text: &str) -> Result<Self, NamespaceError> {
        if text.split('.').any(str::is_empty) {
            return Err(NamespaceError::EmptyLabel(cut(text)));
        }
        let is_allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
        if let Some(character) = text.chars().find(|c| !is_allowed(c)) {
            return Err(NamespaceError::Character { text: cut(text), character });
        }
        if text.starts_with('_') {
            return Err(NamespaceError::Reserved(cut(text)));
        }
        let fits = text.len() <= NAMESPACE_BYTES_MAX
            && text.split('.').count() < SEGMENTS_MAX
            && text.split('.').all(|label| label.len() <= SEGMENT_BYTES_MAX);
        if fits { Ok(Self(text.into())) } else { Err(NamespaceError::TooLong(cut(text))) }
    }
}

impl TryFrom<&Topic> for Namespace {
    type Error = NamespaceError;
    fn try_from(topic: &Topic) -> Result<Self, NamespaceError> {
        topic.as_str().parse()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(text: &str) -> Namespace {
        text.parse().unwrap()
    }

    #[test]
    fn only_one_spelling_is_a_name() {
        for good in ["io", "io.example", "io.example-2.a_b"] {
            assert_eq!(namespace(good).did(), format!("did:macula:{good}"));
            assert_eq!(Namespace::from_did(&namespace(good).did()), Ok(namespace(good)));
        }
        type Check = fn(&NamespaceError) -> bool;
        let cases: [(&str, Check); 11] = [
            ("", |e| matches!(e, NamespaceError::EmptyLabel(_))),
            ("io..example", |e| matches!(e, NamespaceError::EmptyLabel(_))),
            ("io.example.", |e| matches!(e, NamespaceError::EmptyLabel(_))),
            ("io.Example", |e| matches!(e, NamespaceError::Character { character: 'E', .. })),
            ("io.ex\u{430}mple", |e| matches!(e, NamespaceError::Character { character: '\u{430}', .. })),
            ("io.ex%61mple", |e| matches!(e, NamespaceError::Character { character: '%', .. })),
            ("io.example#key", |e| matches!(e, NamespaceError::Character { character: '#', .. })),
            ("io.*", |e| matches!(e, NamespaceError::Character { character: '*', .. })),
            ("_mesh.admin", |e| matches!(e, NamespaceError::Reserved(_))),
            ("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", |e| matches!(e, NamespaceError::TooLong(_))),
            (&"x".repeat(64), |e| matches!(e, NamespaceError::TooLong(_))),
        ];
        for (text, is_expected) in cases {
            let error = text.parse::<Namespace>().unwrap_err();
            assert!(is_expected(&error), "{text:?}: {error}");
        }
        assert!(matches!(Namespace::from_did("did:key:z6Mk"), Err(NamespaceError::Did(_))));
    }

    #[test]
    fn below_means_by_whole_labels() {
        let user = namespace("io.example.user");
        assert!(namespace("io.example").is_above(&user));
        assert!(!user.is_above(&user));
        assert!(!user.is_above(&namespace("io.example.userevil")));
        assert!(!user.is_above(&namespace("io.example")));
        assert_eq!(Namespace::of_patterns(&user.patterns()), Some(user.clone()));
        let mixed = [user.patterns()[0].clone(), namespace("io.example").patterns()[1].clone()];
        assert_eq!(Namespace::of_patterns(&mixed), None);
    }
}
