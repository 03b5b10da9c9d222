//! `macula-host new --lang rust|go|js|ts NAME`: a project that builds, is tested and runs at once.

use std::path::{Path, PathBuf};

use clap::Args;
use macula_build::{Language, ScaffoldError, Template, scaffold};
use serde::Serialize;

use super::CommonFlags;
use crate::{failure::Failure, output};

#[derive(Debug, Args)]
pub(super) struct New {
    /// Language to write it in: rust, go, js or ts
    #[arg(long, value_name = "LANG")]
    lang: Template,
    /// Name of the plugin, and of the folder that is made; or a path, whose last part is the name
    #[arg(value_name = "NAME")]
    path: PathBuf,
}

#[derive(Serialize)]
struct Made<'a> {
    folder: &'a Path,
    language: Language,
}

impl New {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        scaffold(self.lang, &name, &self.path)?;
        if common.json {
            output::json(&Made { folder: &self.path, language: self.lang.language() });
        } else {
            let folder = self.path.display();
            let install = match self.lang {
                Template::Ts => "\n  npm install         gets TypeScript, which checks it",
                _ => "",
            };
            output::line(format_args!(
                "made {folder}\n  cd {folder}{install}\n  macula-host test    runs its scenarios\n  macula-host dev     runs it, and what you make of it"
            ));
        }
        Ok(())
    }
}

impl From<ScaffoldError> for Failure {
    fn from(error: ScaffoldError) -> Self {
        match error {
            ScaffoldError::Name(_) | ScaffoldError::Reserved(_) | ScaffoldError::Taken(_) => Self::usage(error),
            _ => Self::failed(error),
        }
    }
}
