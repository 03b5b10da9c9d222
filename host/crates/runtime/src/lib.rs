//! Placeholder.
pub mod mesh;
mod bindings;
mod host;
