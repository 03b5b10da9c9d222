//! What lies outside of a project and is built with it: packages that it names by their path, members of its workspace,
//! files that configure its compiler.
//!
//! Compilers tell; what none of them tells is not among it, such as a file that a macro reads. Whoever works on a project
//! watches this beside the project's own folder.

use std::path::{Path, PathBuf};

use crate::{Language, go, javascript, language_of, rust};

/// Files and folders outside of the project in `folder` that its build reads, each once; some may not be there yet. `None`
/// when that cannot be told now: there is no project, or its files do not say.
///
/// Runs the author's compiler, for a part of a second; it may be run before anything was built, and knows more afterwards.
pub fn surroundings(folder: &Path) -> Option<Vec<PathBuf>> {
    let folder = folder.canonicalize().ok()?;
    let found = match language_of(&folder, None).ok()? {
        Language::Rust => rust::surroundings(&folder)?,
        Language::Go => go::surroundings(&folder)?,
        Language::Js => javascript::surroundings(&folder)?,
    };
    Some(outside(&folder, found))
}

fn outside(folder: &Path, found: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = found
        .into_iter()
        .map(|path| path.canonicalize().unwrap_or(path))
        .filter(|path| !path.starts_with(folder))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_once_and_what_is_the_projects_not_at_all() {
        let found = ["/w/plugin/sub", "/w/lib", "/w/plugin", "/w/Cargo.toml", "/w/lib"].map(PathBuf::from);
        let expected = ["/w/Cargo.toml", "/w/lib"].map(PathBuf::from);
        assert_eq!(outside(Path::new("/w/plugin"), found.to_vec()), expected);
        assert_eq!(surroundings(Path::new("/nowhere")), None);
    }
}
