//! Runs a plugin in a test, without WebAssembly: the plugin's own code against a host in the same process.
//!
//! [`Host`] is a host for one plugin. It has the plugin's manifest, and grants what that asks; the test delivers messages,
//! makes calls, moves a virtual clock, and looks at what the plugin published, called and logged. It checks arguments as
//! the contract says, so that a topic the manifest does not ask for is denied here as it is in production. Nothing is
//! random, nothing waits.
//!
//! What it leaves out: queues and their limits, retries (a test sees the [`Disposition`](crate::Disposition) and delivers again), and other
//! plugins: a message that the plugin publishes comes to nobody, not even itself.
//!
//! ```
//! use macula_plugin::prelude::*;
//! use macula_plugin::testing::Host;
//! use std::time::Duration;
//!
//! /// Publishes each second how many messages came.
//! #[derive(Default)]
//! struct Meter(u32);
//!
//! impl Lifecycle for Meter {
//!     fn init(&mut self, _: StartReason) -> Result {
//!         timers::every("report", Duration::from_secs(config::parse_or("every-s", 1)?))?;
//!         Ok(())
//!     }
//! }
//!
//! impl MessageHandler for Meter {
//!     fn on_message(&mut self, _: Message) -> Result {
//!         self.0 += 1;
//!         Ok(())
//!     }
//! }
//!
//! impl TimerHandler for Meter {
//!     fn on_timer(&mut self, _: Tick) -> Result {
//!         publish("meter.rate").json(&self.0).send()?;
//!         self.0 = 0;
//!         Ok(())
//!     }
//! }
//!
//! macula_plugin::export!(Meter: lifecycle, message, timer; manifest = r#"
//!     name = "meter"
//!     subscribe = ["**"]
//!     publish = ["meter.rate"]
//!     [[subscriptions]]
//!     pattern = "**"
//! "#);
//!
//! let mut host = Host::<Meter>::setup().config("every-s", "10").start();
//! host.deliver("any.topic", "payload");
//! host.deliver("another", "payload");
//! assert_eq!(host.advance(Duration::from_secs(20)), Ok(2));
//! let rates: Vec<u32> = host.take_published().iter().map(|message| message.json()).collect();
//! assert_eq!(rates, [2, 0]);
//! ```

mod buckets;
mod claims;
mod content_store;
pub(crate) mod fake;
mod handlers;
mod host;
mod incoming;
mod manifest;
mod outgoing;
mod pattern;
mod rights;
mod timer_table;

pub use handlers::Handlers;
pub use host::{Host, Setup};
pub use incoming::{message, request};
pub use outgoing::{Logged, Published};
