//! The author's tools: found, and new enough.

use std::{
    ffi::OsString,
    io::Write as _,
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

/// What a command prints; when it fails, what it says of that goes to standard error. What it says when it does not fail is
/// said again by the build.
pub(crate) fn printed_or_said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        // Who cannot be told does not get it.
        let _ = std::io::stderr().write_all(&output.stderr);
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A tool's name, or what the environment puts in its place.
pub(crate) fn named(variable: &str, name: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| name.into())
}

/// Puts a tool in a place that does what a script for the shell says. The shell writes it: a process that has a file open
/// for writing passes that on to those that other tests start, and such a file cannot be run.
#[cfg(test)]
pub(crate) fn put_tool(path: &std::path::Path, script: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let status = Command::new("sh").args(["-c", write]).arg(path).arg(script).status();
    assert!(status.is_ok_and(|status| status.success()), "{}", path.display());
}
