//! What is known of each room, and when it changes between well and too warm.

use macula_plugin::prelude::{Failure, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Rooms remembered at most: whoever may publish readings must not fill the memory. Readings of further rooms are
/// rejected.
pub const ROOMS_MAX: usize = 1_000;

/// When a room is too warm, and when it is well again.
#[derive(Clone, Copy, Default)]
pub struct Limits {
    pub threshold: f64,
    pub hysteresis: f64,
}

/// A room got too warm, or well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Raised,
    Cleared,
}

#[derive(Serialize)]
struct Room {
    min: f64,
    max: f64,
    last: f64,
    count: u64,
    alert: bool,
}

/// All rooms by name. As JSON: `{"kitchen": {"min": …, "max": …, "last": …, "count": …, "alert": …}}`.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub struct Rooms(BTreeMap<String, Room>);

impl Rooms {
    /// What a reading would change. Changes nothing yet, so that a message can be handled again when its alert was not
    /// sent.
    pub fn change(&self, room: &str, celsius: f64, limits: Limits) -> Result<Option<Change>> {
        let known = self.0.get(room);
        if known.is_none() && self.0.len() == ROOMS_MAX {
            return Err(Failure::reject(format!("{room} is one room more than {ROOMS_MAX}")));
        }
        let alert = known.is_some_and(|room| room.alert);
        if !alert && celsius > limits.threshold {
            return Ok(Some(Change::Raised));
        }
        if alert && celsius < limits.threshold - limits.hysteresis {
            return Ok(Some(Change::Cleared));
        }
        Ok(None)
    }

    /// Takes a reading in.
    pub fn record(&mut self, room: &str, celsius: f64, change: Option<Change>) {
        // Most readings are of known rooms: look before making a name of one's own.
        if !self.0.contains_key(room) {
            let empty = Room { min: celsius, max: celsius, last: celsius, count: 0, alert: false };
            self.0.insert(room.to_owned(), empty);
        }
        let Some(room) = self.0.get_mut(room) else { return };
        room.min = room.min.min(celsius);
        room.max = room.max.max(celsius);
        room.last = celsius;
        room.count += 1;
        room.alert = change.map_or(room.alert, |change| change == Change::Raised);
    }
}
