//! Read the plugin's settings: the manifest's defaults, overridden by whoever runs the plugin.
//!
//! Keys are dotted paths (`alert.threshold`). Within one handler settings do not change; a change is announced to
//! [`ConfigHandler`](crate::ConfigHandler).
//!
//! ```
//! use macula_plugin::prelude::*;
//!
//! fn settings() -> Result<(f64, String, Vec<String>)> {
//!     let threshold = config::parse_or("threshold", 30.0)?;
//!     let greeting = config::get_or("greeting", "hello");
//!     let rooms = config::json("rooms")?.unwrap_or_default();
//!     Ok((threshold, greeting, rooms))
//! }
//! ```

use crate::{Error, host};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;

/// One setting as text; `None` when it is not set.
pub fn get(key: &str) -> Option<String> {
    host::config_get(key)
}

/// One setting as text, or `default` when it is not set.
pub fn get_or(key: &str, default: &str) -> String {
    get(key).unwrap_or_else(|| default.to_owned())
}

/// One setting, parsed: numbers, `bool`, and whatever else is made from text. `None` when it is not set.
///
/// # Errors
/// `Invalid`, naming the setting, when its text does not parse: a wrong setting is never silently the default.
pub fn parse<T>(key: &str) -> Result<Option<T>, Error>
where
    T: FromStr<Err: Display>,
{
    let Some(text) = get(key) else { return Ok(None) };
    text.parse().map(Some).map_err(|cause| Error::Invalid(format!("setting {key} = {text:?}: {cause}")))
}

/// One setting, parsed, or `default` when it is not set.
///
/// # Errors
/// As [`parse`].
pub fn parse_or<T>(key: &str, default: T) -> Result<T, Error>
where
    T: FromStr<Err: Display>,
{
    Ok(parse(key)?.unwrap_or(default))
}

/// One setting that is a list or a table. `None` when it is not set.
///
/// # Errors
/// `Invalid`, naming the setting, when it is not of the type's form.
pub fn json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let Some(text) = get(key) else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|cause| Error::Invalid(format!("setting {key} = {text}: {cause}")))
}

/// All settings, sorted by key.
pub fn all() -> Vec<(String, String)> {
    host::config_all()
}
