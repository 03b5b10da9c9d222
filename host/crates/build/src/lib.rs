//! From a plugin's source to its component.
//!
//! Owns: which language a project is in ([`Language`]), how each is built ([`build`]), what outside of a project
//! is built with it ([`surroundings()`]), what a new project begins with ([`scaffold`]). Leaves to others: running what comes out, and what hosts accept.
//!
//! Compilers are those of the author: cargo, go. Everything after them happens in this process: the contract's types are
//! embedded, WASI is adapted, the manifest put in. JavaScript needs no compiler but a builder of ours, a binary of its own
//! because it brings a second engine. The same source gives the same bytes wherever it lies.
//!
//! `docs/plugins/building.md` says what authors see of it.

mod carried;
mod component;
mod contract;
mod go;
mod javascript;
mod language;
mod rust;
mod scaffold;
mod surroundings;
mod toolchain;
mod wit;

use std::{
    io,
    path::{Path, PathBuf},
};

use macula_files::{NotRead, ReadError, WriteError};

pub use language::{Language, UnknownLanguage};
pub use scaffold::{ScaffoldError, Template, scaffold};
pub use surroundings::surroundings;
pub use toolchain::Missing;
pub use wit::world_of;

/// A file that describes a project is text that a person writes.
const PROJECT_FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a project gives no component. Nothing is left half done: a component that was there before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no such folder.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// It holds no project.
    #[error("{} holds no plugin: no Cargo.toml, go.mod or package.json; `macula-host new` makes one", .0.display())]
    NoProject(PathBuf),
    /// It holds two.
    #[error("{} holds both {} and {}; say which to build: --lang {} or --lang {}", .folder.display(),
        .languages[0].project_file(), .languages[1].project_file(), .languages[0], .languages[1])]
    TwoLanguages {
        /// The folder.
        folder: PathBuf,
        /// What is in it.
        languages: Vec<Language>,
    },
    /// A tool is not there, or too old.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The compiler said no; its messages are on standard error.
    #[error("{} does not compile; see the messages above", .0.display())]
    Compile(PathBuf),
    /// It compiles, to something else.
    #[error("{}: {why}", .project.display())]
    NoComponent {
        /// The project.
        project: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The manifest cannot be read or is none.
    #[error("{}: {why}", .file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No host would take the manifest: in which file and line, and why.
    #[error("{0}")]
    ManifestRefused(String),
    /// A file of the project cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// What was built cannot be written.
    #[error(transparent)]
    Unwritten(#[from] WriteError),
    /// The disk.
    #[error("{}: {error}", .path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What.
        #[source]
        error: io::Error,
    },
}

/// A component that was built.
#[derive(Debug)]
pub struct Built {
    /// Where it lies.
    pub component: PathBuf,
    /// What it was written in.
    pub language: Language,
}

/// Builds the plugin in `folder`, in the language given or found. Compilers write to standard error as they do. `tools` is
/// a folder that stays from one build to the next: what JavaScript is built with is kept there.
///
/// # Errors
/// See [`BuildError`].
pub fn build(folder: &Path, language: Option<Language>, tools: &Path) -> Result<Built, BuildError> {
    let language = language_of(folder, language)?;
    let component = match language {
        Language::Rust => rust::build(folder)?,
        Language::Go => go::build(folder)?,
        Language::Js => javascript::build(folder, tools)?,
    };
    Ok(Built { component, language })
}

/// The language of the project in `folder`.
///
/// # Errors
/// There is no folder, no project, or more than one.
pub fn language_of(folder: &Path, language: Option<Language>) -> Result<Language, BuildError> {
    if !folder.is_dir() {
        return Err(BuildError::NoFolder(folder.to_owned()));
    }
    let found = language::found_in(folder);
    match (language, found.as_slice()) {
        (Some(language), found) if found.contains(&language) => Ok(language),
        (None, [language]) => Ok(*language),
        (None, [_, _, ..]) => Err(BuildError::TwoLanguages { folder: folder.to_owned(), languages: found }),
        _ => Err(BuildError::NoProject(folder.to_owned())),
    }
}

/// The manifest beside a project's source, and the plugin's name in it, or the folder's.
struct Manifest {
    text: Option<String>,
    name: String,
}

impl Manifest {
    fn read(folder: &Path) -> Result<Self, BuildError> {
        let file = folder.join("macula.toml");
        let text = match macula_files::read_text(&file, PROJECT_FILE_BYTES_MAX) {
            Ok(text) => Some(text),
            Err(ReadError { why: NotRead::NotFound, .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let table: toml::Table = text.as_deref().unwrap_or_default().parse().map_err(|error: toml::de::Error| {
            BuildError::Manifest { file, why: error.to_string().trim_end().to_owned() }
        })?;
        let name = match table.get("name").and_then(toml::Value::as_str) {
            Some(name) => name.to_owned(),
            None => {
                let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
                folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        };
        // It becomes a file's name.
        let name = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
        Ok(Self { text, name })
    }
}

/// Puts the component where it is looked for: whole or not at all.
fn write_component(folder: &Path, name: &str, component: &[u8]) -> Result<PathBuf, BuildError> {
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |error| BuildError::Disk { path, error }
    };
    let build = folder.join("build");
    std::fs::create_dir_all(&build).map_err(disk(&build))?;
    let path = build.join(format!("{name}.wasm"));
    macula_files::write(&path, component)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_that_of_the_project_file() {
        let folder = tempfile::tempdir().unwrap();
        let language = |asked| language_of(folder.path(), asked);
        assert!(matches!(language(None), Err(BuildError::NoProject(_))));
        std::fs::write(folder.path().join("go.mod"), "").unwrap();
        assert_eq!(language(None).unwrap(), Language::Go);
        assert!(matches!(language(Some(Language::Rust)), Err(BuildError::NoProject(_))));
        std::fs::write(folder.path().join("package.json"), "").unwrap();
        let two = language(None).unwrap_err().to_string();
        assert!(
            two.ends_with("holds both go.mod and package.json; say which to build: --lang go or --lang js"),
            "{two}"
        );
        assert_eq!(language(Some(Language::Js)).unwrap(), Language::Js);
        assert!(matches!(language_of(&folder.path().join("none"), None), Err(BuildError::NoFolder(_))));
    }

    /// Goal: builds of one project that end at once do not meet: what is there is the component of one of them, whole.
    #[test]
    fn builds_that_end_at_once_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let components: Vec<Vec<u8>> = (1..=4).map(|n: u8| vec![n; 200_000 * usize::from(n)]).collect();
        std::thread::scope(|scope| {
            for component in &components {
                scope.spawn(|| (0..10).for_each(|_| drop(write_component(folder.path(), "one", component).unwrap())));
            }
        });
        let written = std::fs::read(folder.path().join("build/one.wasm")).unwrap();
        assert!(components.contains(&written), "{} bytes", written.len());
        assert_eq!(std::fs::read_dir(folder.path().join("build")).unwrap().count(), 1, "nothing is left beside it");
    }
}
