//! A folder with a plugin's source: its manifest is checked as a host would, and then it is built.

use std::path::Path;

use macula_build::{BuildError, Built, Language};
use macula_files::{NotRead, ReadError};
use macula_runtime::{Manifest, ManifestText};

/// The manifest of a project.
const MANIFEST: &str = "macula.toml";

/// Builds the plugin in `folder`; `tools` is where what JavaScript is built with is kept. A manifest that no host would take
/// ends it before a compiler is run.
pub(crate) fn build(folder: &Path, language: Option<Language>, tools: &Path) -> Result<Built, BuildError> {
    macula_build::language_of(folder, language)?;
    check_manifest(folder)?;
    macula_build::build(folder, language, tools)
}

fn check_manifest(folder: &Path) -> Result<(), BuildError> {
    let file = folder.join(MANIFEST);
    let text = match macula_runtime::read_manifest_text(&file) {
        Ok(text) => text,
        // A project need not have one.
        Err(ReadError { why: NotRead::NotFound, .. }) => return Ok(()),
        Err(error) => return Err(BuildError::ManifestRefused(error.to_string())),
    };
    let origin = file.display().to_string();
    let read = Manifest::resolve(None, Some(ManifestText { origin: &origin, text: &text }), "plugin");
    read.map(drop).map_err(|error| BuildError::ManifestRefused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_no_host_takes_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str| {
            std::fs::write(folder.path().join(MANIFEST), text).unwrap();
            check_manifest(folder.path()).map_err(|error| error.to_string())
        };
        assert_eq!(check("name = \"a\"\nsubscribe = [\"a.*\"]\n"), Ok(()));
        let error = check("name = \"a\"\nsubscrib = [\"a.*\"]\n").unwrap_err();
        assert!(error.contains("macula.toml, line 2: unknown field `subscrib`"), "{error}");
        let error = check("[[subscriptions]]\npattern = \"a.*\"\n").unwrap_err();
        assert!(error.contains("macula.toml, line 2: "), "{error}");
        assert!(check(&"#".repeat(macula_runtime::MANIFEST_BYTES_MAX + 1)).unwrap_err().contains("64 KiB"));
        std::fs::write(folder.path().join(MANIFEST), b"name = \"\xff\"").unwrap();
        assert!(check_manifest(folder.path()).unwrap_err().to_string().ends_with("it is not text in UTF-8"));
    }
}
