//! The author's tools: found, and new enough.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
};

/// A tool that is missing or too old, and the one command that gets it.
#[derive(Debug, thiserror::Error)]
#[error("{what}; get it with: {remedy}")]
pub struct Missing {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// What gets cargo.
pub(crate) const CARGO_REMEDY: &str = "curl --proto '=https' -sSf https://sh.rustup.rs | sh";

/// What a tool prints when it is run with these arguments; `None` when there is no such tool.
pub(crate) fn output(tool: &OsString, arguments: &[&str]) -> Option<String> {
    printed(Command::new(tool).args(arguments).stderr(Stdio::null()))
}

/// What a command prints; `None` when it fails or cannot be run.
pub(crate) fn printed(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A tool's name, or what the environment puts in its place.
pub(crate) fn named(variable: &str, name: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| name.into())
}
