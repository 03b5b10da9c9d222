//! Key-value buckets in memory: local ones, in virtual time.

use crate::Error;
use crate::kv::{Entry, Page, Version};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Bucket {
    slots: BTreeMap<String, Slot>,
    writes: u64,
}

#[derive(Debug)]
enum Slot {
    Value { value: Vec<u8>, version: Version, expires_ms: Option<u64> },
    Counter(i64),
}

const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: u32 = 1 << 20;

impl Bucket {
    pub(super) fn get(&self, key: &str, now_ms: u64) -> Option<Entry> {
        match self.slots.get(key)? {
            slot @ Slot::Value { value, version, .. } if slot.lives(now_ms) => {
                Some(Entry { value: value.clone(), version: *version })
            }
            _ => None,
        }
    }

    pub(super) fn set(&mut self, key: &str, value: &[u8], expires_ms: Option<u64>) -> Result<Version, Error> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX as usize {
            return Err(Error::TooLarge(VALUE_BYTES_MAX));
        }
        if matches!(self.slots.get(key), Some(Slot::Counter(_))) {
            return Err(Error::Conflict(format!("{key} is a counter")));
        }
        self.writes += 1;
        let version = Version(self.writes);
        self.slots.insert(key.to_owned(), Slot::Value { value: value.to_vec(), version, expires_ms });
        Ok(version)
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.slots.remove(key);
    }

    pub(super) fn swap(
        &mut self,
        key: &str,
        expected: Option<Version>,
        value: &[u8],
        now_ms: u64,
    ) -> Result<Version, Error> {
        if self.get(key, now_ms).map(|entry| entry.version) != expected {
            return Err(Error::Conflict(format!("{key} was written by somebody else")));
        }
        self.set(key, value, None)
    }

    pub(super) fn increment(&mut self, key: &str, delta: i32) -> Result<i64, Error> {
        check_key(key)?;
        match self.slots.entry(key.to_owned()).or_insert(Slot::Counter(0)) {
            Slot::Value { .. } => Err(Error::Conflict(format!("{key} holds a value"))),
            Slot::Counter(sum) => {
                *sum = sum
                    .checked_add(i64::from(delta))
                    .ok_or_else(|| Error::Invalid(format!("counter {key} would overflow")))?;
                Ok(*sum)
            }
        }
    }

    pub(super) fn keys(&self, prefix: &str, cursor: Option<&str>, limit: u32, now_ms: u64) -> Result<Page, Error> {
        if !(1..=1_000).contains(&limit) {
            return Err(Error::Invalid(format!("limit {limit}: 1 to 1,000")));
        }
        if cursor.is_some_and(|cursor| !cursor.starts_with(prefix)) {
            return Err(Error::Invalid(format!("the cursor is not of prefix {prefix:?}")));
        }
        let from = cursor.unwrap_or(prefix).to_owned();
        let mut keys: Vec<String> = self
            .slots
            .range(from..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, slot)| slot.lives(now_ms))
            .map(|(key, _)| key.clone())
            .take(limit as usize + 1)
            .collect();
        let next = if keys.len() > limit as usize { keys.pop() } else { None };
        Ok(Page { keys, next })
    }
}

impl Slot {
    fn lives(&self, now_ms: u64) -> bool {
        !matches!(self, Slot::Value { expires_ms: Some(expires_ms), .. } if *expires_ms <= now_ms)
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Error::Invalid(format!("key of {} bytes: 1 to {KEY_BYTES_MAX}", key.len())))
}
