//! Publishes an alert when a room gets warmer than the threshold, and when it has cooled down again.
//!
//! Between the two it says nothing: a room is well again only below `threshold - hysteresis`, so that a temperature that
//! wavers around the threshold makes one alert, not many.

mod rooms;

use macula_plugin::{info, prelude::*};
use rooms::{Change, Limits, Rooms};
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct SensorAlert {
    limits: Limits,
    rooms: Rooms,
}

/// What sensors send: `31.5` or `{"celsius": 31.5}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reading {
    Bare(f64),
    Named { celsius: f64 },
}

#[derive(Serialize)]
struct Alert<'a> {
    room: &'a str,
    state: Change,
    celsius: f64,
    threshold: f64,
}

impl Lifecycle for SensorAlert {
    fn init(&mut self, _: StartReason) -> Result {
        let threshold = config::parse_or("threshold", 30.0)?;
        self.limits = Limits { threshold, hysteresis: config::parse_or("hysteresis", 1.0)? };
        Ok(())
    }
}

impl MessageHandler for SensorAlert {
    fn on_message(&mut self, message: Message) -> Result {
        let (Reading::Bare(celsius) | Reading::Named { celsius }) = message.json()?;
        let room = message.segments().nth(1).unwrap_or_default();
        let change = self.rooms.change(room, celsius, self.limits)?;
        if let Some(state) = change {
            let alert = Alert { room, state, celsius, threshold: self.limits.threshold };
            publish(format!("alerts.{room}.temperature")).json(&alert).send()?;
            info!(room, celsius, "alert {state:?}");
        }
        self.rooms.record(room, celsius, change);
        Ok(())
    }
}

impl CallHandler for SensorAlert {
    fn on_call(&mut self, _: Request) -> Result<Vec<u8>> {
        Ok(to_json(&self.rooms)?)
    }
}

macula_plugin::export!(SensorAlert: lifecycle, message, call);

#[cfg(test)]
mod tests;
