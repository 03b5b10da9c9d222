//! What the server asks for.

use serde::Serialize;

use crate::Metric;

/// Tells how a node is. Called for each request; answers from memory.
pub trait Source: Send + Sync + 'static {
    /// Everything that has to be well for the node to be ready.
    fn checks(&self) -> Vec<Check>;
    /// All metrics.
    fn metrics(&self) -> Vec<Metric>;
}

/// One thing that is well or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Check {
    /// It is well.
    pub fn passing(name: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, reason: None }
    }

    /// It is not.
    pub fn failing(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), ok: false, reason: Some(reason.into()) }
    }
}
