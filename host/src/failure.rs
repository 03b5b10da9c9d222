//! What ends a command other than success: one sentence for people, one exit code for programs.

use std::{fmt, process::ExitCode};

use macula_files::{NotRead, ReadError, WriteError};
use macula_node::{
    ConfirmError, ConnectError, HomeError, RealmError, RelayStartError,
    wire::{CallError, Fault},
};

/// Why a command ended. Exit codes are part of the command line's contract.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

/// What programs decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It did not work: content refused, port in use.
    Failed = 1,
    /// An argument or setting that can never be valid.
    Usage = 2,
    /// A right is missing.
    Denied = 3,
    /// No such file, procedure, content.
    NotFound = 4,
    /// No answer in time.
    Unreachable = 5,
}

impl Failure {
    /// `message` becomes one line, whatever libraries and names of files have brought into it.
    pub(crate) fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: one_line(&message.to_string()) }
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    /// With what was being done in front.
    pub(crate) fn during(self, what: impl fmt::Display) -> Self {
        Self::new(self.kind, format_args!("{what}: {}", self.message))
    }
}

fn one_line(text: &str) -> String {
    if !text.contains(|c: char| c.is_control()) {
        return text.to_owned();
    }
    let lines = text.split(|c: char| c.is_control()).map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        match &error {
            HomeError::Name(_) => Self::usage(error),
            // Most often it is the wrong place altogether.
            HomeError::Io { .. } => {
                Self::failed(format_args!("{error}; MACULA_HOME names the folder that all of this is in"))
            }
            _ => Self::failed(error),
        }
    }
}

impl From<RealmError> for Failure {
    fn from(error: RealmError) -> Self {
        match error {
            RealmError::Home(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let kind = match error {
            ConnectError::Unreachable(_) => Kind::Unreachable,
            ConnectError::Denied(_) => Kind::Denied,
            _ => Kind::Failed,
        };
        Self::new(kind, error)
    }
}

impl From<RelayStartError> for Failure {
    fn from(error: RelayStartError) -> Self {
        Self::failed(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::Denied(_) => Kind::Denied,
            Fault::NotFound(_) => Kind::NotFound,
            Fault::Timeout | Fault::Unavailable(_) => Kind::Unreachable,
            Fault::Invalid(_) | Fault::TooLarge(_) => Kind::Usage,
            _ => Kind::Failed,
        };
        Self::new(kind, fault)
    }
}

impl From<ConfirmError> for Failure {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::Fault(fault) => fault.into(),
            error => Self::new(Kind::Unreachable, error),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            // An answer that is too large is the handler's doing, not the caller's.
            CallError::Handler(_) | CallError::MaybeRun(Fault::TooLarge(_)) => Kind::Failed,
            CallError::NotRun(fault) | CallError::MaybeRun(fault) => Self::from(fault.clone()).kind,
        };
        Self::new(kind, error)
    }
}

impl Kind {
    /// Of a file that could not be read.
    pub(crate) fn of_unread(error: &ReadError) -> Self {
        match error.why {
            NotRead::NotFound => Self::NotFound,
            NotRead::NotText => Self::Usage,
            _ => Self::Failed,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(Kind::of_unread(&error), error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let kind = match error.error.kind() {
            std::io::ErrorKind::IsADirectory => Kind::Usage,
            // The folder that it was to be in.
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Failed,
        };
        Self::new(kind, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::failed("magic header not detected:\n  bad number\n\n").during("a\nfile.wasm");
        assert_eq!(failure.to_string(), "a file.wasm: magic header not detected: bad number");
    }
}
