//! Commands: what is done, as a path whose prefixes stand for everything below (UCAN 1.0.0, “Command”).

use std::{fmt, str::FromStr, sync::Arc};

use crate::limits::COMMAND_BYTES_MAX;

/// A command such as `/mesh/publish`; `/` is all of them. Cheap to clone.
///
/// Lower case, begins with `/`, does not end with one, no empty segments, at most 256 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Command(Arc<str>);

/// Text that is no [`Command`], cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no command (expected a path in lower case, like /mesh/publish)")]
pub struct CommandError(String);

impl CommandError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        "InvalidCommand"
    }
}

impl Command {
    /// The command as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same or lies below, by whole segments.
    pub fn covers(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&*self.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || &*self.0 == "/",
            None => false,
        }
    }
}

impl FromStr for Command {
    type Err = CommandError;

    fn from_str(text: &str) -> Result<Self, CommandError> {
        let refused = || CommandError(text.chars().take(80).collect());
        let path = text.strip_prefix('/').filter(|_| text.len() <= COMMAND_BYTES_MAX).ok_or_else(refused)?;
        let is_lower = text.chars().all(|c| c.to_lowercase().eq([c]) && !c.is_whitespace() && !c.is_control());
        let is_path = path.is_empty() || path.split('/').all(|segment| !segment.is_empty());
        if is_lower && is_path { Ok(Self(text.into())) } else { Err(refused()) }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Command {
        text.parse().unwrap()
    }

    #[test]
    fn grammar() {
        for good in ["/", "/mesh", "/mesh/publish", "/crud/créer", "/ほげ/ふが"] {
            assert_eq!(command(good).as_str(), good);
        }
        for bad in [
            "",
            "mesh",
            "/mesh/",
            "//",
            "/mesh//publish",
            "/Mesh",
            "/Ǆ",
            "/ǅ",
            "/mesh publish",
            "/mesh\n",
            "/é".to_uppercase().as_str(),
            &format!("/{}", "x".repeat(256)),
        ] {
            assert!(bad.parse::<Command>().is_err(), "{bad}");
        }
    }

    #[test]
    fn covering_is_by_whole_segments() {
        assert!(command("/").covers(&command("/mesh")));
        assert!(command("/mesh").covers(&command("/mesh/publish")));
        assert!(command("/mesh").covers(&command("/mesh")));
        assert!(!command("/mesh/publish").covers(&command("/mesh/publisher")));
        assert!(!command("/mesh/publish").covers(&command("/mesh")));
        assert!(!command("/mesh").covers(&command("/")));
        assert!(command("/").covers(&command("/")));
    }
}
