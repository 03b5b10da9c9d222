//! Which language a project is written in.

use std::{fmt, path::Path, str::FromStr};

use serde::Serialize;

/// A language that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, built by cargo.
    Rust,
    /// Go, built by the mainline toolchain.
    Go,
    /// JavaScript and TypeScript, run by an engine inside the component.
    Js,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rust, Self::Go, Self::Js];

    /// The file that makes a folder a project of this language.
    pub fn project_file(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Go => "go.mod",
            Self::Js => "package.json",
        }
    }

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Js => "js",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A language that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("plugins are written in rust, go, js or ts, not in {0}")]
pub struct UnknownLanguage(String);

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "rust" => Ok(Self::Rust),
            "go" => Ok(Self::Go),
            "js" | "javascript" | "ts" | "typescript" => Ok(Self::Js),
            _ => Err(UnknownLanguage(text.to_owned())),
        }
    }
}

/// Languages whose project file lies in `folder`.
pub(crate) fn found_in(folder: &Path) -> Vec<Language> {
    Language::ALL.into_iter().filter(|language| folder.join(language.project_file()).is_file()).collect()
}
