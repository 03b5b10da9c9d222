//! The plugin as a component: this crate's functions over the contract's imports, its handlers behind the exports.
//!
//! Only on `wasm32`; elsewhere `testing` takes this place. Values are moved, not copied: a payload enters and leaves as
//! the bytes the host wrote or reads.

mod exports;
mod imports;
pub mod wit;

pub(crate) use imports::*;
