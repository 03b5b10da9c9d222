//! Selectors: paths into an invocation's arguments, in the manner of jq.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use ipld_core::ipld::Ipld;

use super::PolicyError;
use crate::limits::POLICY_TEXT_BYTES_MAX;

/// A path such as `.`, `.to`, `.a["b c"][0]`, `.items[]`, `.list[1:3]`, `.perhaps?`.
///
/// A key that a map lacks is null; anything else that is not there is nothing, unless a `?` makes it null.
#[derive(Clone, PartialEq, Eq)]
pub struct Selector {
    text: Arc<str>,
    steps: Arc<[Step]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    kind: Kind,
    is_optional: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The value of a key.
    Key(String),
    /// An item of a list; from the end when negative.
    Item(i64),
    /// Part of a list or of bytes.
    Slice(Option<i64>, Option<i64>),
    /// All values of a list or map, as a list.
    Values,
}

impl Selector {
    /// The selector as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it selects; `None` when there is nothing.
    pub fn select<'a>(&self, from: &'a Ipld) -> Option<Cow<'a, Ipld>> {
        let mut at = Cow::Borrowed(from);
        for step in &*self.steps {
            let found = match at {
                Cow::Borrowed(value) => step.kind.of(value),
                Cow::Owned(value) => step.kind.of(&value).map(|found| Cow::Owned(found.into_owned())),
            };
            at = match found {
                Some(found) => found,
                None if step.is_optional => Cow::Owned(Ipld::Null),
                None => return None,
            };
        }
        Some(at)
    }
}

impl Kind {
    fn of<'a>(&self, value: &'a Ipld) -> Option<Cow<'a, Ipld>> {
        match (self, value) {
            (Self::Key(key), Ipld::Map(map)) => Some(map.get(key).map_or(Cow::Owned(Ipld::Null), Cow::Borrowed)),
            (Self::Item(index), Ipld::List(list)) => {
                list.get(usize::try_from(from_start(*index, list.len())).ok()?).map(Cow::Borrowed)
            }
            (Self::Slice(from, to), Ipld::List(list)) => {
                Some(Cow::Owned(Ipld::List(list[range(*from, *to, list.len())].to_vec())))
            }
            (Self::Slice(from, to), Ipld::Bytes(bytes)) => {
                Some(Cow::Owned(Ipld::Bytes(bytes[range(*from, *to, bytes.len())].to_vec())))
            }
            (Self::Values, Ipld::List(_)) => Some(Cow::Borrowed(value)),
            (Self::Values, Ipld::Map(map)) => Some(Cow::Owned(Ipld::List(map.values().cloned().collect()))),
            _ => None,
        }
    }
}

fn from_start(index: i64, length: usize) -> i64 {
    if index < 0 { index.saturating_add(length as i64) } else { index }
}

fn range(from: Option<i64>, to: Option<i64>, length: usize) -> std::ops::Range<usize> {
    let clamped = |index: i64| from_start(index, length).clamp(0, length as i64) as usize;
    let (from, to) = (from.map_or(0, clamped), to.map_or(length, clamped));
    from..to.max(from)
}

/// Reads steps off the front of what is left.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn step(&mut self) -> Option<Step> {
        let kind = if let Some(rest) = self.0.strip_prefix('[') {
            self.0 = rest;
            self.bracketed()?
        } else {
            self.0 = self.0.strip_prefix('.')?;
            if self.0.starts_with('[') { return self.step() } else { Kind::Key(self.name()?) }
        };
        let is_optional = self.0.starts_with('?');
        self.0 = self.0.strip_prefix('?').unwrap_or(self.0);
        Some(Step { kind, is_optional })
    }

    fn name(&mut self) -> Option<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.0.find(|c| !is_name(c)).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then(|| name.to_owned())
    }

    fn bracketed(&mut self) -> Option<Kind> {
        if self.0.starts_with('"') {
            let key = self.quoted()?;
            self.0 = self.0.strip_prefix(']')?;
            return Some(Kind::Key(key));
        }
        let (inside, rest) = self.0.split_once(']')?;
        self.0 = rest;
        if inside.is_empty() {
            return Some(Kind::Values);
        }
        let number = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        match inside.split_once(':') {
            Some((from, to)) => Some(Kind::Slice(number(from)?, number(to)?)),
            None => Some(Kind::Item(inside.parse().ok()?)),
        }
    }

    /// Text in quotes, with `\"` and `\\` for what would end it.
    fn quoted(&mut self) -> Option<String> {
        let mut key = String::new();
        let mut characters = self.0.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(key);
                }
                '\\' => key.push(characters.next().map(|(_, escaped)| escaped).filter(|c| matches!(c, '"' | '\\'))?),
                other => key.push(other),
            }
        }
        None
    }
}

impl FromStr for Selector {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_TEXT_BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let refused = || PolicyError::Selector(text.chars().take(80).collect());
        if !text.starts_with('.') {
            return Err(refused());
        }
        let mut reader = Reader(if text == "." { "" } else { text });
        let mut steps = Vec::new();
        while !reader.0.is_empty() {
            steps.push(reader.step().ok_or_else(refused)?);
        }
        Ok(Self { text: text.into(), steps: steps.into() })
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Ipld {
        serde_json::from_str(text).unwrap()
    }

    fn select(selector: &str) -> Option<Ipld> {
        let value = json(r#"{"a": [1, {"b": 2}, 3], "b c": {"d": "e"}, "n": null, "q\"": 4}"#);
        selector.parse::<Selector>().unwrap().select(&value).map(Cow::into_owned)
    }

    #[test]
    fn paths() {
        for (selector, expected) in [
            (".a[0]", "1"),
            (".a[-1]", "3"),
            (".a[1].b", "2"),
            (".[\"b c\"].d", "\"e\""),
            (".[\"q\\\"\"]", "4"),
            (".a[1:]", "[{\"b\": 2}, 3]"),
            (".a[:-2]", "[1]"),
            (".a[5:9]", "[]"),
            (".a[2:1]", "[]"),
            (".[\"b c\"][]", "[\"e\"]"),
            (".missing", "null"),
            (".a.b?", "null"),
            (".n.x?", "null"),
            (".a[9]?", "null"),
        ] {
            assert_eq!(select(selector), Some(json(expected)), "{selector}");
        }
        assert!(select(".").is_some());
        for selector in [".a.b", ".a[9]", ".a[-9]", ".n.x", ".missing.x", ".a[0][]", ".[\"b c\"][0]", ".a[1][0:1]"] {
            assert_eq!(select(selector), None, "{selector}");
        }
    }

    #[test]
    fn what_is_no_path() {
        for bad in ["", "a", "..", ".a.", ".a[", ".a[x]", ".a]", ".1a", ".a b", ".[\"x]", ".[\"x\"", ".a[1:2:3]", ".a??", ".ä"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        assert_eq!(format!(".{}", "a".repeat(2000)).parse::<Selector>(), Err(PolicyError::TooLong));
    }
}
