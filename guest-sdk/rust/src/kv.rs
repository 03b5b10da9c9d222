//! Small state that outlives the instance, kept in buckets.
//!
//! Buckets belong to the plugin: nobody else sees them, new versions do. Keys: 1 to 512 bytes. Values: at most 1 MiB;
//! larger ones belong in [`content`](crate::content).
//!
//! ```
//! use macula_plugin::prelude::*;
//!
//! fn count(visitor: &str) -> Result<i64> {
//!     let visits = kv::open("visits")?;
//!     visits.set("last", visitor.as_bytes())?;
//!     Ok(visits.increment("count", 1)?)
//! }
//! ```

use crate::payload::{self, DecodeError};
use crate::{Error, error::milliseconds, host};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A value and the version that [`Bucket::swap`] compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Changes with each write of this key.
    pub version: Version,
}

impl Entry {
    /// Reads the value as JSON.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        payload::decode_json("stored value", &self.value)
    }
}

/// Which write of a key: compare for equality only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub(crate) u64);

/// Some keys, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// Give this to [`Bucket::keys`] for the next page; `None` at the end.
    pub next: Option<String>,
}

/// Opens a bucket.
///
/// # Errors
/// `Denied` (the manifest does not declare it), `Unavailable`.
pub fn open(name: &str) -> Result<Bucket, Error> {
    host::bucket_open(name).map(Bucket)
}

/// An open bucket. Every function may fail with `Unavailable` (storage), the writing ones with `QuotaExceeded`.
#[derive(Debug)]
pub struct Bucket(host::Bucket);

impl Bucket {
    /// Whether other hosts write to it too. Then the last write wins, reads may be stale, and [`swap`](Self::swap) is
    /// refused.
    pub fn replicated(&self) -> bool {
        self.0.replicated()
    }

    /// Reads a key; `None` when it is not set or has expired.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.0.get(key)
    }

    /// Writes a key, for good.
    ///
    /// # Errors
    /// `Invalid` (key), `TooLarge`, `QuotaExceeded`, `Unavailable`.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(key, value, None)
    }

    /// Writes a key that expires so long after this write.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_for(&self, key: &str, value: &[u8], lifetime: Duration) -> Result<(), Error> {
        self.0.set(key, value, Some(milliseconds("lifetime", lifetime)?))
    }

    /// Removes a key; removing what is not there does nothing.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key)
    }

    /// Writes a key only if its version is still `expected` (`None`: only if it is not set); gives the new version.
    ///
    /// # Errors
    /// `Conflict`; `Invalid` (key, or the bucket is replicated); `TooLarge`; as [`set`](Self::set).
    pub fn swap(&self, key: &str, expected: Option<Version>, value: &[u8]) -> Result<Version, Error> {
        self.0.swap(key, expected, value)
    }

    /// Adds to a counter and gives its sum as known here; an unset key counts from 0. A counter is no value: `get` does
    /// not see it.
    ///
    /// # Errors
    /// `Conflict` (the key holds a value), `Invalid` (key, or overflow: then it is unchanged).
    pub fn increment(&self, key: &str, delta: i32) -> Result<i64, Error> {
        self.0.increment(key, delta)
    }

    /// Lists keys that begin with `prefix`: at most `limit` (1 to 1,000) from `cursor` on.
    ///
    /// # Errors
    /// `Invalid` (limit, or a cursor of another prefix).
    pub fn keys(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        self.0.keys(prefix, cursor, limit)
    }
}
