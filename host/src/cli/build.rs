//! `macula-host build [DIR]`: from source to component.

use std::path::{Path, PathBuf};

use clap::Args;
use macula_build::{BuildError, Language};
use serde::Serialize;

use super::CommonFlags;
use crate::{failure::Failure, output, project};

#[derive(Debug, Args)]
pub(super) struct Build {
    /// Folder with the plugin's Cargo.toml, go.mod or package.json
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Language to build, where a folder holds two: rust, go or js
    #[arg(long, value_name = "LANG")]
    lang: Option<Language>,
}

/// What came of a build.
#[derive(Debug, Serialize)]
pub(super) struct Built {
    pub(super) component: PathBuf,
    language: Language,
    mcid: String,
    bytes: usize,
    imports: Vec<String>,
    #[serde(skip)]
    uses: String,
}

impl Build {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let built = build(&self.directory, self.lang)?;
        if common.json {
            output::json(&built);
        } else {
            let size = built.bytes as f64 / 1024.0;
            output::line(format_args!("{} ({size:.1} KiB)\n  content id  {}", built.component.display(), built.mcid));
            output::line(format_args!("  may ask for {}", built.uses));
        }
        Ok(())
    }
}

/// Builds the plugin in `directory`. The compiler's messages go to standard error as they are.
pub(super) fn build(directory: &Path, language: Option<Language>) -> Result<Built, Failure> {
    let tools = super::Cache::named("build")?;
    let built = project::build(directory, language, &tools.path)?;
    let bytes = macula_runtime::read_component(&built.component)?;
    let inspection = macula_runtime::examine(&bytes)
        .map_err(|refusal| Failure::failed(refusal).during(built.component.display()))?;
    let uses = inspection.capabilities().join(", ");
    Ok(Built {
        uses: if uses.is_empty() { "nothing".to_owned() } else { uses },
        component: built.component,
        language: built.language,
        mcid: inspection.mcid.to_string(),
        bytes: bytes.len(),
        imports: inspection.imports,
    })
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::NoFolder(_) | BuildError::NoProject(_) => Self::not_found(error),
            BuildError::TwoLanguages { .. } | BuildError::Manifest { .. } | BuildError::ManifestRefused(_) => {
                Self::usage(error)
            }
            BuildError::Unreadable(read) => read.into(),
            _ => Self::failed(error),
        }
    }
}
