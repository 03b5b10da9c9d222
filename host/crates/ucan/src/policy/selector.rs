//! Selectors: paths into an invocation's arguments, in the manner of jq (UCAN delegation, “Selectors”).

use std::{collections::BTreeMap, fmt, ops::Range, str::FromStr, sync::Arc};

use ipld_core::ipld::Ipld;

use super::{
    PolicyError,
    evaluation::{Budget, Exhausted},
};
use crate::limits::POLICY_TEXT_BYTES_MAX;

/// A path such as `.`, `.to`, `.a["b c"][0]`, `.items[]`, `.list[1:3]`, `.perhaps?`.
///
/// A key that a map lacks is null; anything else that is not there is nothing, unless a `?` makes it null. Bytes are
/// indexed and sliced like a list of numbers. Names after a dot are those of jq, `[A-Za-z_][A-Za-z0-9_]*`; any other
/// key is written in brackets.
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

/// What a selector finds, without a copy of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found<'a> {
    /// A value as it stands, or null.
    Value(&'a Ipld),
    /// Part of a list, or the values of a map.
    List(Vec<&'a Ipld>),
    /// Part of bytes.
    Bytes(&'a [u8]),
    /// One of them.
    Byte(u8),
}

static NULL: Ipld = Ipld::Null;

impl Selector {
    /// The selector as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it selects; `None` when there is nothing. Ends at the first step that finds nothing and is not optional.
    pub(super) fn select<'a>(&self, from: &'a Ipld, budget: &mut Budget) -> Result<Option<Found<'a>>, Exhausted> {
        let mut at = Found::Value(from);
        for step in &*self.steps {
            budget.spend(1)?;
            at = match at.step(&step.kind) {
                Some(found) => found,
                None if step.is_optional => Found::Value(&NULL),
                None => return Ok(None),
            };
            if let Found::List(items) = &at {
                budget.spend(items.len())?;
            }
        }
        Ok(Some(at))
    }
}

impl<'a> Found<'a> {
    fn step(self, kind: &Kind) -> Option<Self> {
        match (kind, self) {
            (Kind::Key(key), Self::Value(Ipld::Map(map))) => Some(Self::Value(map.get(key).unwrap_or(&NULL))),
            (Kind::Item(index), Self::Value(Ipld::List(list))) => list.get(place(*index, list.len())?).map(Self::Value),
            (Kind::Item(index), Self::List(list)) => list.get(place(*index, list.len())?).copied().map(Self::Value),
            (Kind::Slice(from, to), Self::Value(Ipld::List(list))) => {
                Some(Self::List(list[range(*from, *to, list.len())].iter().collect()))
            }
            (Kind::Slice(from, to), Self::List(list)) => Some(Self::List(list[range(*from, *to, list.len())].to_vec())),
            (Kind::Values, Self::Value(Ipld::Map(map))) => Some(Self::List(values(map))),
            (Kind::Values, list @ (Self::Value(Ipld::List(_)) | Self::List(_))) => Some(list),
            (kind, Self::Value(Ipld::Bytes(bytes))) => Self::within(bytes, kind),
            (kind, Self::Bytes(bytes)) => Self::within(bytes, kind),
            _ => None,
        }
    }

    fn within(bytes: &'a [u8], kind: &Kind) -> Option<Self> {
        match kind {
            Kind::Item(index) => bytes.get(place(*index, bytes.len())?).copied().map(Self::Byte),
            Kind::Slice(from, to) => Some(Self::Bytes(&bytes[range(*from, *to, bytes.len())])),
            Kind::Key(_) | Kind::Values => None,
        }
    }
}

fn values(map: &BTreeMap<String, Ipld>) -> Vec<&Ipld> {
    map.values().collect()
}

fn from_start(index: i64, length: usize) -> i64 {
    if index < 0 { index.saturating_add(length as i64) } else { index }
}

/// Where the item stands; `None` before the beginning.
fn place(index: i64, length: usize) -> Option<usize> {
    usize::try_from(from_start(index, length)).ok()
}

fn range(from: Option<i64>, to: Option<i64>, length: usize) -> Range<usize> {
    let clamped = |index: i64| from_start(index, length).clamp(0, length as i64) as usize;
    let (from, to) = (from.map_or(0, clamped), to.map_or(length, clamped));
    from..to.max(from)
}

/// Reads steps off the front of what is left.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn step(&mut self) -> Option<Step> {
        // A dot may stand before a bracket.
        let after_dot = self.0.strip_prefix('.');
        self.0 = after_dot.unwrap_or(self.0);
        let kind = match self.0.strip_prefix('[') {
            Some(rest) => {
                self.0 = rest;
                self.bracketed()?
            }
            None => Kind::Key(after_dot.and_then(|_| self.name())?),
        };
        // Said twice, it is said once.
        let rest = self.0.trim_start_matches('?');
        let is_optional = rest.len() < self.0.len();
        self.0 = rest;
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
        match inside.split_once(':') {
            None if inside.is_empty() => Some(Kind::Values),
            None => number(inside).map(Kind::Item),
            Some(("", "")) => None,
            Some(("", to)) => Some(Kind::Slice(None, Some(number(to)?))),
            Some((from, "")) => Some(Kind::Slice(Some(number(from)?), None)),
            Some((from, to)) => Some(Kind::Slice(Some(number(from)?), Some(number(to)?))),
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

/// Digits, with a minus sign at most.
fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
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
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Ipld {
        serde_json::from_str(text).unwrap()
    }

    /// What is selected, as a value of its own.
    fn select_from(value: &Ipld, selector: &str) -> Option<Ipld> {
        let found = selector.parse::<Selector>().unwrap().select(value, &mut Budget::new()).unwrap()?;
        Some(match found {
            Found::Value(value) => value.clone(),
            Found::List(items) => Ipld::List(items.into_iter().cloned().collect()),
            Found::Bytes(bytes) => Ipld::Bytes(bytes.into()),
            Found::Byte(byte) => Ipld::Integer(byte.into()),
        })
    }

    fn select(selector: &str) -> Option<Ipld> {
        select_from(&json(r#"{"a": [1, {"b": 2}, 3], "b c": {"d": "e"}, "n": null, "q\"": 4}"#), selector)
    }

    #[test]
    fn paths() {
        for (selector, expected) in [
            (".a[0]", "1"),
            (".a.[0]", "1"),
            (".a[-1]", "3"),
            (".a[1].b", "2"),
            (".[\"b c\"].d", "\"e\""),
            (".[\"q\\\"\"]", "4"),
            (".a[1:]", "[{\"b\": 2}, 3]"),
            (".a[:-2]", "[1]"),
            (".a[0:-2]", "[1]"),
            (".a[1:][-1]", "3"),
            (".a[5:9]", "[]"),
            (".a[2:1]", "[]"),
            (".a[]", "[1, {\"b\": 2}, 3]"),
            (".[\"b c\"][]", "[\"e\"]"),
            (".[\"b c\"][][0]", "\"e\""),
            (".missing", "null"),
            (".a.b?", "null"),
            (".a.b???", "null"),
            (".n.x?", "null"),
            (".a[9]?", "null"),
        ] {
            assert_eq!(select(selector), Some(json(expected)), "{selector}");
        }
        assert!(select(".").is_some());
        for selector in [
            ".a.b",
            ".a[9]",
            ".a[-9]",
            ".n.x",
            ".missing.x",
            ".a[0][]",
            ".[\"b c\"][0]",
            ".a[1][0:1]",
            // An early failure is not mended by a later step.
            ".a.b.c?",
            ".a.b?.c",
        ] {
            assert_eq!(select(selector), None, "{selector}");
        }
    }

    #[test]
    fn into_bytes() {
        let bytes = Ipld::Bytes(vec![0xd6, 0xa9, 0xc1, 0x8c, 0xf8, 0xc4]);
        assert_eq!(select_from(&bytes, ".[3]"), Some(Ipld::Integer(140)));
        assert_eq!(select_from(&bytes, ".[-1]"), Some(Ipld::Integer(0xc4)));
        assert_eq!(select_from(&bytes, ".[1:3]"), Some(Ipld::Bytes(vec![0xa9, 0xc1])));
        assert_eq!(select_from(&bytes, ".[1:][0]"), Some(Ipld::Integer(0xa9)));
        for selector in [".[6]", ".[]", ".a", ".[0][0]"] {
            assert_eq!(select_from(&bytes, selector), None, "{selector}");
        }
    }

    #[test]
    fn what_is_no_path() {
        for bad in [
            "",
            "a",
            "[0]",
            "..",
            "...",
            ".a..b",
            ".a.",
            ".a[",
            ".a[x]",
            ".a]",
            ".1a",
            ".a b",
            ".[\"x]",
            ".[\"x\"",
            ".a[1:2:3]",
            ".a[:]",
            ".a[+1]",
            ".a[--1]",
            ".a[1:x]",
            ".?",
            ".ä",
            ".a|.b",
            ".a[99999999999999999999]",
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        assert_eq!(format!(".{}", "a".repeat(2000)).parse::<Selector>(), Err(PolicyError::TooLong));
    }

    proptest! {
        #[test]
        fn arbitrary_text_and_indices_never_panic(text in r#"(\.|\.[a-c]|\[-?[0-9]{0,20}(:-?[0-9]{0,20})?\]|\["[a-z\\"]{0,3}"\]|\?|.){0,6}"#) {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.as_str(), &text);
                let value = json(r#"{"a": [[1, 2], {"b": "c"}], "b": {"c": null}}"#);
                let _ = selector.select(&value, &mut Budget::new());
                let _ = selector.select(&Ipld::Bytes(vec![1, 2]), &mut Budget::new());
            }
        }
    }
}
