//! Globs: text in which `*` stands for anything.

use std::{fmt, str::FromStr, sync::Arc};

use super::PolicyError;
use crate::limits::POLICY_TEXT_BYTES_MAX;

/// A pattern of `like`: `*` is any text, of any length and across every separator; `\*` is a star (UCAN delegation, “Glob
/// Matching”). A `\` before anything else is itself, so that `\\*` is a backslash and a star.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    text: Arc<str>,
    /// What stands between stars; one more than there are stars.
    parts: Arc<[Box<str>]>,
}

impl Glob {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of `text`. Each part is looked for once, from where the one before ended, so the time
    /// grows with the text and the pattern, not with their product.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else { return text.is_empty() };
        let Some((last, middle)) = rest.split_last() else { return text == &**first };
        let Some(mut left) = text.strip_prefix(&**first) else { return false };
        for part in middle {
            let Some(at) = left.find(&**part) else { return false };
            left = &left[at + part.len()..];
        }
        left.ends_with(&**last)
    }
}

impl FromStr for Glob {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_TEXT_BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let mut parts = vec![String::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let part = parts.last_mut().expect("there is always one");
            match character {
                '*' => parts.push(String::new()),
                '\\' if characters.peek() == Some(&'*') => part.extend(characters.next()),
                other => part.push(other),
            }
        }
        Ok(Self { text: text.into(), parts: parts.into_iter().map(String::into_boxed_str).collect() })
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(glob: &str, text: &str) -> bool {
        glob.parse::<Glob>().unwrap().matches(text)
    }

    #[test]
    fn stars_and_escaped_stars() {
        for (glob, text) in
            [("", ""), ("*", ""), ("*", "a.b"), ("a*", "a"), ("*a", "ba"), ("a*c*e", "abcde"), ("\\*", "*")]
        {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("", "a"), ("a", "ab"), ("a*a", "a"), ("*ab", "abc"), ("\\*", "x"), ("a*b*c", "acb")] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
        assert!(matches("io.example.user*", "io.example.userevil"), "why the mesh allows whole segments only");
    }

    /// The specification knows one escape, and a reader that knows more would let through more than was meant.
    #[test]
    fn a_backslash_escapes_stars_only() {
        assert!(matches("a\\b", "a\\b"));
        assert!(matches("\\\\*", "\\*"));
        assert!(!matches("\\\\*", "\\x"));
        assert!(matches("a\\", "a\\"));
    }

    #[test]
    fn hostile_patterns_take_no_longer() {
        let glob = format!("{}b", "a*".repeat(500));
        assert!(!matches(&glob, &"a".repeat(16 << 10)));
        assert_eq!("x".repeat(1025).parse::<Glob>(), Err(PolicyError::TooLong));
    }

    /// The definition, which takes exponential time.
    fn defined(glob: &[u8], text: &[u8]) -> bool {
        match (glob.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => defined(&glob[1..], text) || (!text.is_empty() && defined(glob, &text[1..])),
            (Some(one), Some(other)) if one == other => defined(&glob[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn as_defined(glob in "[ab*]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches(&glob, &text), defined(glob.as_bytes(), text.as_bytes()));
        }
    }
}
