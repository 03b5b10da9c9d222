//! What package.json says of a plugin: the module that it begins with, and the engine that runs it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{BuildError, PROJECT_FILE_BYTES_MAX};

/// Modules that a project may begin with, when package.json does not say.
const ENTRIES: [&str; 4] = ["src/index.ts", "src/index.js", "index.ts", "index.js"];

/// The folder that package managers fill.
const NODE_MODULES: &str = "node_modules";

/// What the component brings along to run JavaScript.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Engine {
    /// Small, and starts fast.
    #[default]
    QuickJs,
    /// SpiderMonkey, the engine of Firefox: larger; its JavaScript is as new as a browser's.
    StarlingMonkey,
}

/// What is read from package.json.
#[derive(Debug)]
pub(super) struct Package {
    /// The module that the project begins with: `main`, or one of the usual.
    pub(super) entry: PathBuf,
    /// `macula.engine`.
    pub(super) engine: Engine,
}

#[derive(Deserialize)]
struct Raw {
    main: Option<PathBuf>,
    #[serde(default)]
    macula: RawMacula,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMacula {
    engine: Option<String>,
}

impl Package {
    pub(super) fn read(folder: &Path) -> Result<Self, BuildError> {
        let file = folder.join("package.json");
        let text = macula_files::read_text(&file, PROJECT_FILE_BYTES_MAX)?;
        let wrong = |why: String| BuildError::Manifest { file: file.clone(), why };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if !value.is_object() {
            return Err(wrong("is no object: what package.json says stands between { and }".into()));
        }
        if value.get("macula").is_some_and(|macula| !macula.is_object()) {
            return Err(wrong("\"macula\" is no object; it may be { \"engine\": \"quickjs\" }".into()));
        }
        let raw: Raw = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let engine = match raw.macula.engine.as_deref() {
            None => Engine::default(),
            Some("quickjs") => Engine::QuickJs,
            Some("starlingmonkey") => Engine::StarlingMonkey,
            Some(other) => {
                return Err(wrong(format!(
                    "\"macula.engine\" is {other:?}; it may be \"quickjs\", the default, or \"starlingmonkey\""
                )));
            }
        };
        Ok(Self { entry: entry(folder, raw.main).map_err(wrong)?, engine })
    }
}

/// Packages that the project names as its dependencies and that are links to folders elsewhere on this machine: members of
/// its workspace, and what `npm install ../lib` has linked.
pub(super) fn linked(folder: &Path) -> Vec<PathBuf> {
    let text = macula_files::read_text(&folder.join("package.json"), PROJECT_FILE_BYTES_MAX).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let names = ["dependencies", "devDependencies"].into_iter().filter_map(|kind| package.get(kind)?.as_object());
    let find = |name: &String| {
        let mut places = folder.ancestors().map(|folder| folder.join(NODE_MODULES).join(name));
        places.find_map(|place| place.canonicalize().ok())
    };
    let found = names.flat_map(|names| names.keys()).filter_map(find);
    found.filter(|package| !is_installed(package)).collect()
}

/// Whether a file is one that a package manager has put there.
pub(super) fn is_installed(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == NODE_MODULES)
}

fn entry(folder: &Path, main: Option<PathBuf>) -> Result<PathBuf, String> {
    match main {
        Some(main) if folder.join(&main).is_file() => Ok(folder.join(main)),
        Some(main) => Err(format!("\"main\" is {:?}, and there is no such file", main.display().to_string())),
        None => ENTRIES
            .iter()
            .map(|entry| folder.join(entry))
            .find(|entry| entry.is_file())
            .ok_or_else(|| format!("has no \"main\", and there is none of {}", ENTRIES.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_begins_with_its_main_or_the_usual() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        let read = || Package::read(folder.path());
        write("package.json", "{}");
        let error = read().unwrap_err().to_string();
        assert!(error.contains("has no \"main\", and there is none of src/index.ts"), "{error}");
        write("index.js", "");
        assert_eq!(read().unwrap().entry, folder.path().join("index.js"));
        write("package.json", "{\"main\": \"other.js\"}");
        let error = read().unwrap_err().to_string();
        assert!(error.ends_with("\"main\" is \"other.js\", and there is no such file"), "{error}");
        write("package.json", "{\"macula\": null}");
        assert!(read().unwrap_err().to_string().contains("\"macula\" is no object"));
        write("package.json", "\u{feff}{}");
        read().unwrap();
        write("package.json", "[]");
        assert!(read().unwrap_err().to_string().contains("is no object"));
        write("package.json", "{");
        assert!(matches!(read(), Err(BuildError::Manifest { .. })));
    }

    #[test]
    fn linked_packages_are_those_that_are_named_and_lie_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let project = root.join("plugins/one");
        for path in ["plugins/one/node_modules/installed", "node_modules/@here", "lib", "shared", "unnamed"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        for (link, target) in [
            ("plugins/one/node_modules/lib", "lib"),
            ("node_modules/@here/shared", "shared"),
            ("node_modules/u", "unnamed"),
        ] {
            std::os::unix::fs::symlink(root.join(target), root.join(link)).unwrap();
        }
        let package =
            r#"{"dependencies": {"lib": "", "installed": "", "none": ""}, "devDependencies": {"@here/shared": ""}}"#;
        std::fs::write(project.join("package.json"), package).unwrap();
        assert_eq!(linked(&project), [root.join("lib"), root.join("shared")]);
        std::fs::write(project.join("package.json"), "broken").unwrap();
        assert!(linked(&project).is_empty());
    }

    #[test]
    fn the_engine_is_one_of_two() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.js"), "").unwrap();
        let engine = |package: &str| {
            std::fs::write(folder.path().join("package.json"), package).unwrap();
            Package::read(folder.path()).map(|package| package.engine).map_err(|error| error.to_string())
        };
        assert_eq!(engine("{}"), Ok(Engine::QuickJs));
        assert_eq!(engine(r#"{"macula": {"engine": "quickjs"}}"#), Ok(Engine::QuickJs));
        assert_eq!(engine(r#"{"macula": {"engine": "starlingmonkey"}}"#), Ok(Engine::StarlingMonkey));
        let error = engine(r#"{"macula": {"engine": "v8"}}"#).unwrap_err();
        assert!(error.ends_with(r#""macula.engine" is "v8"; it may be "quickjs", the default, or "starlingmonkey""#));
        let error = engine(r#"{"macula": {"engines": "quickjs"}}"#).unwrap_err();
        assert!(error.contains("unknown field `engines`"), "{error}");
    }
}
