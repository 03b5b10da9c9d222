//! TypeScript's own compiler looks at a project that has it: the builder takes types out and checks none.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::starlingmonkey::NODE_REMEDY;
use crate::{BuildError, Missing, toolchain};

/// Checks a project in TypeScript, or one whose JavaScript is checked by a tsconfig.json. Gives the project's files that were
/// looked at: one that holds types alone is no part of the component, and a change of it is to be seen all the same.
pub(super) fn check(folder: &Path, entry: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let is_typescript = entry.extension().is_some_and(|end| end == "ts" || end == "mts");
    let config = folder.join("tsconfig.json");
    if !is_typescript && !config.is_file() {
        return Ok(Vec::new());
    }
    let compiler = folder.join("node_modules/.bin/tsc");
    let is_wanted =
        std::fs::read_to_string(folder.join("package.json")).is_ok_and(|text| text.contains("\"typescript\""));
    let typescript =
        if is_wanted { "TypeScript yet: npm install" } else { "TypeScript: npm install --save-dev typescript" };
    for (file, what) in [(&compiler, typescript), (&config, "tsconfig.json")] {
        if !file.is_file() {
            let _ = writeln!(std::io::stderr(), "types are taken out, not checked: this project has no {what}");
            return Ok(Vec::new());
        }
    }
    if toolchain::output(&"node".into(), &["--version"]).is_none() {
        let what = "TypeScript checks this project, and there is no `node` here to run it".to_owned();
        return Err(Missing { what, remedy: NODE_REMEDY.into() }.into());
    }
    let pretty = if std::io::stderr().is_terminal() { "true" } else { "false" };
    let checked = Command::new(&compiler)
        .args(["--noEmit", "--listFiles", "--pretty", pretty])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| BuildError::Disk { path: compiler, error })?;
    let output = String::from_utf8_lossy(&checked.stdout);
    let (files, messages): (Vec<&str>, Vec<&str>) = output.lines().partition(|line| Path::new(line).is_absolute());
    for message in messages {
        // Not locked for long: whoever logs meanwhile would wait.
        let _ = writeln!(std::io::stderr(), "{message}");
    }
    if !checked.status.success() {
        return Err(BuildError::Compile(folder.to_owned()));
    }
    let own = files.into_iter().map(PathBuf::from).filter(|file| is_own(folder, file));
    Ok(own.chain([config]).collect())
}

/// Whether a file is the project's, and not of a package.
fn is_own(folder: &Path, file: &Path) -> bool {
    file.strip_prefix(folder).is_ok_and(|below| !below.starts_with("node_modules"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn files_of_packages_are_not_the_projects() {
        let own = |file: &str| is_own(Path::new("/p"), Path::new(file));
        assert!(own("/p/src/model.ts") && own("/p/macula/index.d.ts"));
        assert!(!own("/p/node_modules/zod/index.d.ts") && !own("/lib/lib.d.ts"));
    }

    /// With a compiler that says what tsc says.
    #[test]
    fn what_was_looked_at_is_an_input_and_an_error_ends_the_build() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let entry = root.join("index.ts");
        assert!(check(root, &root.join("index.js")).unwrap().is_empty());
        assert!(check(root, &entry).unwrap().is_empty());
        let compiler = root.join("node_modules/.bin/tsc");
        fs::create_dir_all(compiler.parent().unwrap()).unwrap();
        let says = |script: &str| {
            fs::write(&compiler, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
        };
        says("exit 1");
        assert!(check(root, &entry).unwrap().is_empty());
        fs::write(root.join("tsconfig.json"), "{}").unwrap();
        assert!(matches!(check(root, &entry), Err(BuildError::Compile(_))));
        says("echo /lib/lib.d.ts; echo $PWD/model.ts");
        let root = root.canonicalize().unwrap();
        assert_eq!(check(&root, &entry).unwrap(), [root.join("model.ts"), root.join("tsconfig.json")]);
    }
}
