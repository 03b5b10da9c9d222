//! Bytes, as scenarios write them: text, JSON, or base64 for everything else.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes, in one of three ways; none of them is no bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// As UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// As JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// As they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl Payload {
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let given = [self.text.is_some(), self.json.is_some(), self.base64.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err("a payload is one of text, json and base64".to_owned());
        }
        match &self.base64 {
            Some(text) => BASE64.decode(text.as_bytes()).map(drop).map_err(|error| format!("base64: {error}")),
            None => Ok(()),
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        match (&self.text, &self.json, &self.base64) {
            (Some(text), _, _) => Bytes::copy_from_slice(text.as_bytes()),
            (_, Some(json), _) => json.to_string().into(),
            (_, _, Some(base64)) => BASE64.decode(base64.as_bytes()).unwrap_or_default().into(),
            _ => Bytes::new(),
        }
    }

    /// Whether nothing is said of it.
    pub(crate) fn is_any(&self) -> bool {
        self.text.is_none() && self.json.is_none() && self.base64.is_none()
    }

    /// How bytes that are expected are written best: as JSON, of which the value counts, where they are some.
    pub fn of(bytes: &[u8]) -> Self {
        Self::written(bytes, |_| true)
    }

    /// How bytes that are given are written best: as JSON only where that gives the same bytes.
    pub fn exactly(bytes: &[u8]) -> Self {
        Self::written(bytes, |json| json.to_string().as_bytes() == bytes)
    }

    fn written(bytes: &[u8], is_good: impl Fn(&Value) -> bool) -> Self {
        match std::str::from_utf8(bytes) {
            Ok("") => Self::default(),
            Ok(text) => match serde_json::from_str(text) {
                Ok(json) if can_be_toml(&json) && is_good(&json) => Self { json: Some(json), ..Self::default() },
                _ => Self { text: Some(text.to_owned()), ..Self::default() },
            },
            Err(_) => Self { base64: Some(BASE64.encode(bytes)), ..Self::default() },
        }
    }

    /// What is different in `bytes`, if anything.
    pub(crate) fn difference(&self, bytes: &[u8]) -> Option<String> {
        let got = || String::from_utf8_lossy(bytes).into_owned();
        match (&self.json, self.is_any()) {
            (_, true) => None,
            (Some(json), _) => match serde_json::from_slice::<Value>(bytes) {
                Ok(found) if is_same(json, &found) => None,
                Ok(found) => Some(format!("expected {json}, got {found}")),
                Err(_) => Some(format!("expected {json}, got what is no JSON: {:?}", got())),
            },
            _ if self.bytes() == bytes => None,
            (None, _) => Some(match &self.text {
                Some(text) => format!("expected {text:?}, got {:?}", got()),
                None => {
                    format!("expected {}, got {}", self.base64.as_deref().unwrap_or_default(), BASE64.encode(bytes))
                }
            }),
        }
    }
}

/// Whether two values are the same, numbers by what they are worth: `30` is `30.0`.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_same(value, other)))
        }
        _ => one == other,
    }
}

/// TOML has no null, and integers of 64 bits with a sign.
fn can_be_toml(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(values) => values.iter().all(can_be_toml),
        Value::Object(values) => values.values().all(can_be_toml),
        Value::Number(number) => number.is_i64() || number.is_f64(),
        Value::Bool(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_compared_by_value_and_text_by_letter() {
        let json = Payload { json: Some(json!({"a": 30, "b": [1]})), ..Payload::default() };
        assert_eq!(json.difference(br#"{"b":[1.0],"a":30.0}"#), None);
        assert!(json.difference(b"{}").unwrap().contains("got {}"));
        assert!(json.difference(b"nothing").unwrap().contains("no JSON"));
        let text = Payload { text: Some("30".into()), ..Payload::default() };
        assert_eq!(text.difference(b"30"), None);
        assert!(text.difference(b"30.0").is_some());
        assert_eq!(Payload::default().difference(b"whatever"), None);
    }

    #[test]
    fn bytes_are_written_as_they_are_read() {
        for bytes in [&b""[..], b"text", b"{\"a\":1}", b"null", b"18446744073709551615", &[0xff, 0]] {
            let payload = Payload::of(bytes);
            payload.check().unwrap();
            assert_eq!(payload.bytes(), bytes);
            toml::to_string(&payload).unwrap();
        }
        // What is given is given letter by letter.
        for text in ["{ \"a\": 1 }", "1.50", "{\"a\":1,\"a\":2}"] {
            assert_eq!(Payload::exactly(text.as_bytes()).bytes(), text);
            assert!(Payload::of(text.as_bytes()).json.is_some());
        }
        let two = Payload { text: Some("a".into()), json: Some(json!(1)), ..Payload::default() };
        assert!(two.check().is_err());
        assert!(Payload { base64: Some("?".into()), ..Payload::default() }.check().is_err());
    }
}
