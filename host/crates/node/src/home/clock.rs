//! What a home keeps of its clock: `<home>/clock`, JSON, written under the lock of `<home>/clock.lock`.
//!
//! All nodes of a home write to it, and raise the floor only. A reset lowers it, and is counted, so that a node that runs notices
//! and does not raise it again.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt};

use serde::{Deserialize, Serialize};

use super::{
    Home, HomeError,
    files::{stored, write_private},
};

/// Four numbers and their names.
const CLOCK_BYTES_MAX: u64 = 4 << 10;

/// What is known of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoredClock {
    /// No time before this is believed, in unix seconds.
    pub floor: u64,
    /// How often it was lowered.
    #[serde(default)]
    pub resets: u64,
    /// Resets that a node has written to its log.
    #[serde(default)]
    pub audited: u64,
    /// What the floor was before the last reset.
    #[serde(default)]
    pub reset_from: u64,
}

impl Home {
    /// What is kept of the clock; nothing has been seen yet where nothing is kept.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn clock(&self) -> Result<StoredClock, HomeError> {
        let path = self.path.join("clock");
        let Some(text) = stored(&path, CLOCK_BYTES_MAX)? else { return Ok(StoredClock::default()) };
        serde_json::from_slice(&text).map_err(|error| HomeError::Damaged {
            path,
            reason: format!("{error}; when the machine's clock is right, run: macula-host clock reset"),
        })
    }

    /// Changes what is kept, when nobody else does; what it is then.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn update_clock(&self, change: impl FnOnce(&mut StoredClock)) -> Result<StoredClock, HomeError> {
        self.with_locked_clock(Self::clock, change)
    }

    /// Lowers the floor to `to` (unix seconds), or raises it: a person says that it is right. What was damaged is made anew; its
    /// resets are counted from `to`, so that a node that runs tells this one from any before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn reset_clock(&self, to: u64) -> Result<StoredClock, HomeError> {
        let read = |home: &Self| match home.clock() {
            Err(HomeError::Damaged { .. }) => Ok(StoredClock::default()),
            read => read,
        };
        self.with_locked_clock(read, |clock| {
            *clock = StoredClock {
                floor: to,
                resets: (clock.resets + 1).max(to),
                audited: clock.audited,
                reset_from: clock.floor,
            };
        })
    }

    fn with_locked_clock(
        &self,
        read: impl FnOnce(&Self) -> Result<StoredClock, HomeError>,
        change: impl FnOnce(&mut StoredClock),
    ) -> Result<StoredClock, HomeError> {
        let path = self.path.join("clock.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let locked = lock.and_then(|file| file.lock().map(|()| file));
        let _locked = locked.map_err(|error| HomeError::Io { action: "lock", path, error })?;
        let before = read(self)?;
        let mut after = before;
        change(&mut after);
        if after != before {
            let text = serde_json::to_vec(&after).expect("plain data always encodes");
            write_private(&self.path.join("clock"), &text)?;
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Goal: the floor outlives processes, a reset is counted and lowers it, and is the way out of a damaged file.
    #[test]
    fn the_floor_is_kept_and_reset() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        assert_eq!(home.clock().unwrap(), StoredClock::default());
        home.update_clock(|clock| clock.floor = 2000).unwrap();
        let again = Home::open(directory.path()).unwrap();
        assert_eq!(again.clock().unwrap().floor, 2000);
        let reset = again.reset_clock(1000).unwrap();
        assert_eq!((reset.floor, reset.reset_from), (1000, 2000));
        assert!(again.reset_clock(1000).unwrap().resets > reset.resets);
        let reset = again.clock().unwrap();
        assert_eq!(home.clock().unwrap(), reset);
        fs::write(directory.path().join("clock"), "soon").unwrap();
        assert!(home.clock().unwrap_err().to_string().contains("clock reset"));
        assert!(home.update_clock(|clock| clock.floor = 1).is_err());
        assert_eq!(home.reset_clock(1000).unwrap().floor, 1000);
    }
}
