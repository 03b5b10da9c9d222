//! What commands print: results on standard output, everything else on standard error.

mod printer;

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::OnceLock,
    time::{Duration, UNIX_EPOCH},
};

use macula_node::wire::{self, readable_with};
use serde::Serialize;

pub(crate) use self::printer::{Printer, Unread};
use crate::failure::{Failure, Kind};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document a line, for programs.
    Json,
}

impl Format {
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Why a result could not be written. That nobody reads any more is no failure.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// A result line; flushed, so that a reader behind a pipe sees it now. False when it could not be written: then nobody reads
/// any more, or [`check`] says why.
pub(crate) fn line(text: impl std::fmt::Display) -> bool {
    let mut out = std::io::stdout().lock();
    noted(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Waits until everything that was handed to a printer is written. What keeps it from being written is for [`check`].
pub(crate) async fn finish(printer: Printer) {
    noted(printer.finish().await);
}

/// The same for a command that was interrupted: what a reader takes at once is written, and one that does not read is not waited
/// for.
pub(crate) async fn finish_soon(printer: Printer) {
    let again = tokio::signal::ctrl_c();
    tokio::select! {
        () = finish(printer) => {}
        _ = again => {}
        () = tokio::time::sleep(INTERRUPTED_PATIENCE) => {}
    }
}

/// How long a command that was interrupted waits for whoever reads its results.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(1);

/// Whether a result was written; why not is kept for [`check`].
pub(crate) fn noted(written: io::Result<()>) -> bool {
    let Err(error) = written else { return true };
    if error.kind() != io::ErrorKind::BrokenPipe {
        let _ = LOST.set(error);
    }
    false
}

/// Whether all results could be written.
pub(crate) fn check() -> Result<(), Failure> {
    match LOST.get() {
        None => Ok(()),
        Some(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
    }
}

/// A result as one JSON line.
pub(crate) fn json(value: &impl Serialize) -> bool {
    line(serde_json::to_string(value).expect("results are plain data"))
}

/// Bytes as they are, with a line break when people read them and none is there. On a terminal only lines and tabs control it.
pub(crate) fn bytes(bytes: &[u8]) -> bool {
    let shown;
    let bytes = if std::io::stdout().is_terminal() {
        shown = readable_with(&String::from_utf8_lossy(bytes), |c| matches!(c, '\n' | '\t')).into_owned();
        shown.as_bytes()
    } else {
        bytes
    };
    let mut out = std::io::stdout().lock();
    let broken = bytes.ends_with(b"\n");
    let written = out.write_all(bytes).and_then(|()| if broken { Ok(()) } else { out.write_all(b"\n") });
    noted(written.and_then(|()| out.flush()))
}

/// Text of others as it may be shown: on a terminal, control characters are spelled out, so that they cannot move the
/// cursor or forge a line.
pub(crate) fn readable(text: &str) -> Cow<'_, str> {
    if std::io::stdout().is_terminal() { wire::readable(text) } else { text.into() }
}

/// A time as people read it, in UTC: `2026-01-31T12:00:00.000Z`.
pub(crate) fn time(milliseconds: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(milliseconds.min(TIME_MAX))).to_string()
}

/// The last moment that has four digits for the year.
const TIME_MAX: u64 = 253_402_300_799_999;

/// A number of things, in English: `1 step`, `2 steps`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// Something worth knowing that is no result.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Where it cannot be said there is nobody to be told that either.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether text on standard error may be coloured: on a terminal that knows colours, unless `NO_COLOR` says otherwise
/// (no-color.org).
pub(crate) fn has_colors() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Whether somebody watches: then notes and progress are welcome.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

#[derive(Serialize)]
struct FailureLine<'a> {
    error: &'a str,
    kind: &'static str,
}

pub(crate) fn print_failure(failure: &Failure, format: Format) {
    let message = failure.to_string();
    if format == Format::Text {
        // Texts of others may be part of it.
        let shown = if is_watched() { wire::readable(&message) } else { message.as_str().into() };
        return note(format_args!("macula-host: {shown}"));
    }
    let kind = match failure.kind() {
        Kind::Failed => "failed",
        Kind::Usage => "usage",
        Kind::Denied => "denied",
        Kind::NotFound => "not-found",
        Kind::Unreachable => "unreachable",
    };
    note(serde_json::to_string(&FailureLine { error: &message, kind }).expect("two strings"));
}

/// A time in UTC, as RFC 3339 writes it. Days are counted from the first of March of the year 0, so that the leap day is
/// the last of its year.
pub(crate) fn utc(unix: u64) -> String {
    let (days, second) = (unix / 86_400 + 719_468, unix % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}
