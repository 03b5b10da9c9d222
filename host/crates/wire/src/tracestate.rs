//! What systems that trace have noted about a trace: `tracestate` of W3C Trace Context.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Bytes of a tracestate: what Trace Context asks everybody to carry (section 3.3.1.5).
const BYTES_MAX: usize = 512;
/// Entries of it (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// Characters of a key, and of a value (sections 3.3.1.3.1 and 3.3.1.3.2).
const FIELD_CHARS_MAX: usize = 256;

/// `key=value,key=value`, at most 512 bytes; means nothing without the [`Traceparent`](crate::Traceparent) that it came with. It is
/// handed on as it is, and never taken apart. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tracestate(Arc<str>);

/// Why text is no tracestate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "tracestate is not 1 to {MEMBERS_MAX} entries of the form key=value, with commas between them, in at most {BYTES_MAX} bytes"
)]
pub struct TracestateError;

impl Tracestate {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tracestate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Tracestate {
    type Error = TracestateError;

    fn try_from(text: String) -> Result<Self, TracestateError> {
        text.parse()
    }
}

impl From<Tracestate> for String {
    fn from(state: Tracestate) -> Self {
        state.0.as_ref().to_owned()
    }
}

impl FromStr for Tracestate {
    type Err = TracestateError;

    /// Section 3.3 of Trace Context: entries may be empty, a key is there once, and white space around entries counts for nothing.
    fn from_str(text: &str) -> Result<Self, TracestateError> {
        if text.len() > BYTES_MAX {
            return Err(TracestateError);
        }
        let mut keys = Vec::new();
        for member in text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
        {
            let (key, value) = member.split_once('=').ok_or(TracestateError)?;
            if !is_key(key) || !is_value(value) || keys.contains(&key) {
                return Err(TracestateError);
            }
            keys.push(key);
        }
        if (1..=MEMBERS_MAX).contains(&keys.len()) { Ok(Self(text.into())) } else { Err(TracestateError) }
    }
}

fn is_key(key: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_other = |byte: u8| is_first(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= FIELD_CHARS_MAX && key.bytes().next().is_some_and(is_first) && key.bytes().all(is_other)
}

/// White space at its end is gone already.
fn is_value(value: &str) -> bool {
    let is_right = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
    (1..=FIELD_CHARS_MAX).contains(&value.len()) && value.bytes().all(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_handed_on_as_it_is() {
        let longest = format!("a={},b={}", "x".repeat(256), "y".repeat(251));
        for text in ["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "1a_-*/@b=x y", " a=1 ,\t,b=2,", &longest] {
            assert_eq!(text.parse::<Tracestate>().map(|state| state.as_str().to_owned()), Ok(text.to_owned()));
        }
        assert_eq!((longest.len(), format!("{longest} ").parse::<Tracestate>()), (512, Err(TracestateError)));
    }

    #[test]
    fn everything_else_is_none() {
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=1")).collect();
        let (long, longer) = ("x".repeat(257), "a=1,".repeat(200));
        for text in [
            "",
            ",",
            "a",
            "=1",
            "a=",
            "A=1",
            "_a=1",
            "a=1=2",
            "a=1,a=2",
            "a=ü",
            "a=1\n",
            &many.join(","),
            &format!("a={long}"),
            &format!("{long}=a"),
            &longer,
        ] {
            assert_eq!(text.parse::<Tracestate>(), Err(TracestateError), "{text}");
        }
    }
}
