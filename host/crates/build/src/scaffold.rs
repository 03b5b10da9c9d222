//! What a new project begins with: a plugin that builds, is tested and runs at once.
//!
//! The SDK is put into the project: it then builds wherever it is cloned, without a registry.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{Language, carried, language::UnknownLanguage};

/// Characters of a plugin's name.
const NAME_LENGTH_MAX: usize = 63;

/// What a new project is written in: a language, and TypeScript, which is built as JavaScript is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// Rust.
    Rust,
    /// Go.
    Go,
    /// JavaScript.
    Js,
    /// TypeScript.
    Ts,
}

impl Template {
    /// The language that builds it.
    pub fn language(self) -> Language {
        match self {
            Self::Rust => Language::Rust,
            Self::Go => Language::Go,
            Self::Js | Self::Ts => Language::Js,
        }
    }
}

impl FromStr for Template {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ts" | "typescript" => Ok(Self::Ts),
            _ => Ok(match text.parse()? {
                Language::Rust => Self::Rust,
                Language::Go => Self::Go,
                Language::Js => Self::Js,
            }),
        }
    }
}

/// Names that a crate cannot have: keywords of Rust, and crates of its own that every other one sees.
const RUST_NAMES: [&str; 56] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Why there is no new project. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScaffoldError {
    /// It cannot be a plugin's name, or not that of a package.
    #[error(
        "{0:?} is no name for a plugin: 1 to {NAME_LENGTH_MAX} of a-z, 0-9 and '-', beginning with a letter and not ending with '-'"
    )]
    Name(String),
    /// A package of that name would be mistaken for the SDK.
    #[error("a plugin cannot be named {0:?}, as the SDK is")]
    Reserved(String),
    /// The language has taken it.
    #[error("a plugin in Rust cannot be named {0:?}, which is a word of the language or a crate of its own")]
    Taken(String),
    /// There is a file where the project is to be.
    #[error("{} is a file, or is below one", .0.display())]
    IsFile(PathBuf),
    /// Something is there already.
    #[error("{} is there already, and not empty", .0.display())]
    Exists(PathBuf),
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

/// Makes the project in `folder`, which must not be there or be empty.
///
/// # Errors
/// See [`ScaffoldError`].
pub fn scaffold(template: Template, name: &str, folder: &Path) -> Result<(), ScaffoldError> {
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.len() <= NAME_LENGTH_MAX
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !is_name {
        return Err(ScaffoldError::Name(name.to_owned()));
    }
    if name == "macula" || name == "macula-plugin" {
        return Err(ScaffoldError::Reserved(name.to_owned()));
    }
    if template == Template::Rust && RUST_NAMES.contains(&name) {
        return Err(ScaffoldError::Taken(name.to_owned()));
    }
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(ScaffoldError::Exists(folder.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(ScaffoldError::IsFile(folder.to_owned()));
        }
        Err(error) => return Err(disk(folder)(error)),
    }
    let was_there = folder.is_dir();
    fill(template, name, folder).inspect_err(|_| {
        // Nothing half done is left.
        let _ = fs::remove_dir_all(folder);
        if was_there {
            let _ = fs::create_dir(folder);
        }
    })
}

fn fill(template: Template, name: &str, folder: &Path) -> Result<(), ScaffoldError> {
    for (path, text) in carried::template(template) {
        let path = folder.join(destination(path));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(disk(parent))?;
        }
        fs::write(&path, text.replace("{{name}}", name)).map_err(disk(&path))?;
    }
    let language = template.language();
    let (sdk, files) = match language {
        Language::Rust => ("macula-plugin", carried::rust_sdk()),
        Language::Go => ("macula", carried::go_sdk()),
        Language::Js => ("macula", carried::js_sdk()),
    };
    let sdk = folder.join(sdk);
    carried::write(files, &sdk).map_err(disk(&sdk))?;
    if language == Language::Rust {
        let manifest = sdk.join("Cargo.toml");
        fs::write(&manifest, carried::RUST_SDK_MANIFEST).map_err(disk(&manifest))?;
    }
    Ok(())
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> ScaffoldError {
    let path = path.to_owned();
    move |error| ScaffoldError::Disk { path, error }
}

/// Where a template's file goes: some have other names here, so that tools do not take them for projects.
fn destination(path: &str) -> String {
    if path == "gitignore" { ".gitignore".to_owned() } else { path.trim_end_matches(".in").to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_its_name_everywhere_and_the_sdk() {
        for (template, sdk) in [
            (Template::Rust, "macula-plugin/Cargo.toml"),
            (Template::Go, "macula/go.mod"),
            (Template::Js, "macula/index.js"),
            (Template::Ts, "macula/index.d.ts"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().join("made");
            scaffold(template, "two-words", &folder).unwrap();
            for file in [
                template.language().project_file(),
                "macula.toml",
                "README.md",
                ".gitignore",
                "scenarios/greets.toml",
                sdk,
            ] {
                let text = fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
                assert!(!text.contains("{{"), "{file}");
                assert!(!text.contains("workspace = true"), "{file}");
            }
            let manifest = fs::read_to_string(folder.join("macula.toml")).unwrap();
            assert!(manifest.starts_with("name = \"two-words\""), "{manifest}");
            assert!(matches!(scaffold(template, "two-words", &folder), Err(ScaffoldError::Exists(_))));
        }
    }

    #[test]
    fn typescript_shares_with_javascript_all_but_the_source() {
        assert_eq!("ts".parse::<Template>().unwrap(), Template::Ts);
        assert_eq!("javascript".parse::<Template>().unwrap(), Template::Js);
        let folder = tempfile::tempdir().unwrap();
        scaffold(Template::Ts, "typed", folder.path()).unwrap();
        for (file, is_there) in [
            ("src/index.ts", true),
            ("tsconfig.json", true),
            ("scenarios/greets.toml", true),
            ("src/index.js", false),
            ("jsconfig.json", false),
        ] {
            assert_eq!(folder.path().join(file).is_file(), is_there, "{file}");
        }
        let package = fs::read_to_string(folder.path().join("package.json")).unwrap();
        assert!(package.contains("src/index.ts"), "{package}");
    }

    #[test]
    fn a_name_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "Up", "a_b", "-a", "a-", "1a", "../a", "a/b", "ä", "macula", &"a".repeat(64)] {
            let made = folder.path().join("made");
            assert!(
                matches!(scaffold(Template::Go, name, &made), Err(ScaffoldError::Name(_) | ScaffoldError::Reserved(_))),
                "{name}"
            );
            assert!(!made.exists());
        }
        for name in ["test", "fn", "proc-macro"] {
            let made = folder.path().join("made");
            assert!(matches!(scaffold(Template::Rust, name, &made), Err(ScaffoldError::Taken(_))), "{name}");
            assert!(!made.exists());
            scaffold(Template::Js, name, &folder.path().join(name)).unwrap();
        }
    }
}
