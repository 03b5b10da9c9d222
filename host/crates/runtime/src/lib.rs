//! Placeholder.
pub mod mesh;
