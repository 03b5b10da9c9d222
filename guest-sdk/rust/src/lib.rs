//! Write macula mesh handlers in Rust.
//!
//! A plugin is a WebAssembly component that a macula host runs: it receives messages, answers calls, and may do exactly
//! what it was granted. With this crate it is a type that implements one trait for each thing it can be asked to do, and
//! one line that exports it:
//!
//! ```
//! use macula_plugin::{info, prelude::*};
//!
//! #[derive(Default)]
//! struct Doorbell {
//!     rings: u64,
//! }
//!
//! impl MessageHandler for Doorbell {
//!     fn on_message(&mut self, message: Message) -> Result {
//!         let door: String = message.json()?;
//!         self.rings += 1;
//!         info!(door, rings = self.rings, "somebody is there");
//!         publish(format!("chimes.{door}")).text("ding dong").send()?;
//!         Ok(())
//!     }
//! }
//!
//! impl CallHandler for Doorbell {
//!     fn on_call(&mut self, _: Request) -> Result<Vec<u8>> {
//!         Ok(to_json(&self.rings)?)
//!     }
//! }
//!
//! macula_plugin::export!(Doorbell: message, call; manifest = r#"
//!     name = "doorbell"
//!     subscribe = ["doors.rings"]
//!     publish = ["chimes.*"]
//!     advertise = ["doors.count"]
//!     [[subscriptions]]
//!     pattern = "doors.rings"
//!     [[procedures]]
//!     procedure = "doors.count"
//! "#);
//!
//! // In a test: no WebAssembly, no network.
//! let mut host = macula_plugin::testing::Host::<Doorbell>::start();
//! host.deliver("doors.rings", "\"front\"");
//! assert_eq!(host.take_published()[0].topic, "chimes.front");
//! assert_eq!(host.call_json("doors.count", &()), Ok(1));
//! ```
//!
//! Usually the manifest is a file `macula.toml` beside `Cargo.toml`, and [`export!`] takes it from there. The crate is a
//! `cdylib`; `cargo build --release --target wasm32-wasip2` makes the component.
//!
//! # What there is
//!
//! - Handlers: [`Lifecycle`], [`MessageHandler`], [`CallHandler`], [`TimerHandler`], [`ConfigHandler`],
//!   [`StateHandler`]. Each is optional, and only what [`export!`] lists is exported.
//! - To do: [`publish`], [`subscribe`], [`call`], [`advertise`], [`timers`], [`kv`], [`content`].
//! - To know: [`config`], [`identity`], [`trace`](mod@trace), [`clock`].
//! - To tell: [`log`](mod@log) and its macros.
//! - When something fails: `?`. [`Failure`] says what becomes of the message or call then.
//! - To test: `testing`, a host in the same process, in builds for anything but `wasm32`.
//!
//! # What holds
//!
//! - A plugin imports only the interfaces it uses: `macula-host inspect` shows what it could do at most.
//! - An instance runs one handler at a time; its state is `&mut self`.
//! - A message reaches its handler at least once, a call at most once.
//! - Dropping a [`Subscription`](pubsub::Subscription), an [`Advertisement`](rpc::Advertisement) or a
//!   [`Fetch`](content::Fetch) ends nothing: they belong to the plugin, not to a variable.
//! - A panic is logged, ends the instance, and counts as a retry of the message.
//! - Payloads are moved in and borrowed out, never copied by this crate.
//!
//! # Features
//!
//! `log`: what libraries write through the `log` crate goes to the plugin's log.

pub mod clock;
pub mod config;
pub mod content;
mod error;
mod export;
mod failure;
mod handlers;
pub mod identity;
pub mod kv;
pub mod log;
mod message;
mod payload;
pub mod prelude;
pub mod pubsub;
pub mod rpc;
pub mod timers;
pub mod trace;

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(target_arch = "wasm32")]
use component as host;
#[cfg(not(target_arch = "wasm32"))]
use testing::fake as host;

pub use error::{Error, HandlerError};
pub use failure::{Failure, OrElse, Result};
pub use handlers::{
    CallHandler, ConfigHandler, Disposition, Health, Lifecycle, MessageHandler, StartReason, StateHandler, StopReason,
    TimerHandler,
};
pub use message::{Message, Metadata, Request, Tick};
pub use payload::{DecodeError, from_json, to_json};
pub use pubsub::{publish, subscribe};
pub use rpc::{CallError, advertise, call};

/// What [`export!`] expands to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::component::wit;
    #[cfg(target_arch = "wasm32")]
    pub use crate::export::{Glue, begin};
    pub use crate::export::{Instance, NotImplemented, Probe, check_listed, section};
    #[cfg(not(target_arch = "wasm32"))]
    pub use crate::testing::Handlers;
}
