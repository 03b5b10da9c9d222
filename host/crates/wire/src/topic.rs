//! Topics and patterns: the names inside a realm. Procedures are named like topics.
//!
//! A topic is 1 to 16 segments of `[A-Za-z0-9_-]{1,63}` joined by `.`, case-sensitive. A pattern is a topic in which a
//! whole segment may be `*` (exactly one segment) and the last may be `**` (one or more). Names whose first segment
//! begins with `_` are the system's: no leading wildcard matches them. Specified in `docs/protocol/pubsub.md`.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Segments of a topic or pattern at most.
pub const SEGMENTS_MAX: usize = 16;
/// Bytes of one segment at most.
pub const SEGMENT_BYTES_MAX: usize = 63;

/// A name that messages are published to or a procedure is called by. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(Arc<str>);

/// A set of topics. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Arc<str>);

/// Why text is no topic or pattern. The text is quoted, cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// No segment at all.
    #[error("a topic must not be empty")]
    Empty,
    /// Two dots in a row, or one at an end.
    #[error("{0:?} has an empty segment")]
    EmptySegment(String),
    /// More than [`SEGMENTS_MAX`] segments.
    #[error("{0:?} has more than {SEGMENTS_MAX} segments")]
    TooManySegments(String),
    /// A segment above [`SEGMENT_BYTES_MAX`] bytes.
    #[error("{0:?} has a segment longer than {SEGMENT_BYTES_MAX} characters")]
    SegmentTooLong(String),
    /// A character outside `[A-Za-z0-9_-]`.
    #[error("{topic:?} contains {character:?}; segments are made of A-Z, a-z, 0-9, '_' and '-'")]
    Character {
        /// What was given.
        topic: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// A wildcard in a topic.
    #[error("{0:?} contains a wildcard; wildcards belong in patterns, here a topic is needed")]
    Wildcard(String),
    /// A wildcard that is only part of a segment.
    #[error("{0:?} mixes a wildcard with other characters; a wildcard stands for a whole segment")]
    PartialWildcard(String),
    /// `**` before the last segment.
    #[error("{0:?} has '**' before the end; '**' stands for the rest and comes last")]
    TailNotLast(String),
}

fn quoted(text: &str) -> String {
    if text.chars().count() > 80 { text.chars().take(80).chain("…".chars()).collect() } else { text.to_owned() }
}

/// Checks `text` segment by segment; `wildcard` says what to do with a segment that holds a `*`.
fn check(text: &str, mut wildcard: impl FnMut(&str, bool) -> Result<(), TopicError>) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    let mut segments = text.split('.').peekable();
    let mut count = 0;
    while let Some(segment) = segments.next() {
        count += 1;
        if count > SEGMENTS_MAX {
            return Err(TopicError::TooManySegments(quoted(text)));
        }
        if segment.is_empty() {
            return Err(TopicError::EmptySegment(quoted(text)));
        }
        if segment.contains('*') {
            wildcard(segment, segments.peek().is_none())?;
            continue;
        }
        if let Some(character) = segment.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            return Err(TopicError::Character { topic: quoted(text), character });
        }
        if segment.len() > SEGMENT_BYTES_MAX {
            return Err(TopicError::SegmentTooLong(quoted(text)));
        }
    }
    Ok(())
}

impl Topic {
    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is the system's: written by nodes only.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('_')
    }

    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        check(text, |_, _| Err(TopicError::Wildcard(quoted(text))))?;
        Ok(Self(text.into()))
    }
}

impl Pattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is the name of one topic.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it reaches into the system's names.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('_')
    }

    /// Whether `topic` is in the set.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.covers_segments(topic.as_str())
    }

    /// Whether every topic of `other` is in the set too, so that a right to this pattern is one to `other`.
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_segments(other.as_str())
    }

    fn covers_segments(&self, other: &str) -> bool {
        let mut theirs = other.split('.');
        let mut first = true;
        for ours in self.0.split('.') {
            let Some(segment) = theirs.next() else { return false };
            let reserved = first && segment.starts_with('_');
            first = false;
            match ours {
                "**" => return !reserved,
                "*" if reserved || segment == "**" => return false,
                "*" => {}
                literal if literal != segment => return false,
                _ => {}
            }
        }
        theirs.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        check(text, |segment, last| match segment {
            "*" => Ok(()),
            "**" if last => Ok(()),
            "**" => Err(TopicError::TailNotLast(quoted(text))),
            _ => Err(TopicError::PartialWildcard(quoted(text))),
        })?;
        Ok(Self(text.into()))
    }
}

impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

macro_rules! text_traits {
    ($name:ident) => {
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = TopicError;
            fn try_from(text: String) -> Result<Self, TopicError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}
text_traits!(Topic);
text_traits!(Pattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(text: &str) -> Topic {
        text.parse().unwrap()
    }
    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn grammar() {
        for good in ["a", "a.b", "A-b_c.9", "_mesh.admin"] {
            topic(good);
        }
        let longest = vec!["x".repeat(63); 16].join(".");
        topic(&longest);
        for (bad, what) in [
            ("", "empty"),
            (".a", "empty segment"),
            ("a..b", "empty segment"),
            ("a.", "empty segment"),
            ("a.*", "wildcard"),
            ("a b", "contains ' '"),
            ("a.ö", "contains 'ö'"),
        ] {
            let error = bad.parse::<Topic>().unwrap_err().to_string();
            assert!(error.contains(what), "{bad:?}: {error}");
        }
        assert!(matches!("x".repeat(64).parse::<Topic>(), Err(TopicError::SegmentTooLong(_))));
        assert!(matches!(vec!["x"; 17].join(".").parse::<Topic>(), Err(TopicError::TooManySegments(_))));
        for good in ["*", "**", "a.*.b", "a.**", "*.*.**"] {
            pattern(good);
        }
        assert!(matches!("a.**.b".parse::<Pattern>(), Err(TopicError::TailNotLast(_))));
        assert!(matches!("a.b*".parse::<Pattern>(), Err(TopicError::PartialWildcard(_))));
        assert!(matches!("***".parse::<Pattern>(), Err(TopicError::PartialWildcard(_))));
    }

    #[test]
    fn matching() {
        for (p, t, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.**", "a.b.c", true),
            ("a.**", "a", false),
            ("**", "a", true),
            ("*", "_mesh", false),
            ("**", "_mesh.admin", false),
            ("_mesh.**", "_mesh.admin", true),
            ("a.*", "a._b", true),
            ("sensors.*.temperature", "sensors.kitchen.temperature", true),
        ] {
            assert_eq!(pattern(p).matches(&topic(t)), expected, "{p} ~ {t}");
        }
    }

    #[test]
    fn covering() {
        for (p, q, expected) in [
            ("sensors.**", "sensors.*.temperature", true),
            ("sensors.*.temperature", "sensors.**", false),
            ("a.*", "a.**", false),
            ("a.**", "a.**", true),
            ("a.**", "a.*", true),
            ("**", "*.b", true),
            ("**", "_mesh.**", false),
            ("*", "**", false),
        ] {
            assert_eq!(pattern(p).covers(&pattern(q)), expected, "{p} ⊇ {q}");
        }
    }

    /// A pattern as segments, and a topic it may or may not match, decided by a plain recursive definition.
    fn reference(pattern: &[&str], topic: &[&str], first: bool) -> bool {
        match (pattern, topic) {
            ([], []) => true,
            (["**"], [head, ..]) => !(first && head.starts_with('_')),
            (["*", p @ ..], [head, t @ ..]) => !(first && head.starts_with('_')) && reference(p, t, false),
            ([a, p @ ..], [b, t @ ..]) => a == b && reference(p, t, false),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_defined(p in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "_s"]), 1..5), tail: bool,
                              t in prop::collection::vec(prop::sample::select(vec!["a", "b", "_s"]), 1..6)) {
            let mut p = p;
            if tail { p.push("**"); }
            prop_assert_eq!(pattern(&p.join(".")).matches(&topic(&t.join("."))), reference(&p, &t, true));
        }

        /// Covering means: whatever the covered pattern matches, the covering one matches.
        #[test]
        fn covering_implies_matching(p in "[ab*](\\.[ab*]){0,3}(\\.\\*\\*)?", q in "[ab*](\\.[ab*]){0,3}(\\.\\*\\*)?", t in "[ab](\\.[ab]){0,4}") {
            let (p, q, t) = (pattern(&p), pattern(&q), topic(&t));
            if p.covers(&q) && q.matches(&t) { prop_assert!(p.matches(&t)); }
        }

        #[test]
        fn parsing_never_panics(text in ".{0,100}") {
            let _ = text.parse::<Topic>();
            let _ = text.parse::<Pattern>();
        }
    }
}
