//! TypeScript's own compiler looks at a project that has it: the builder takes types out and checks none.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    record::{Moment, Sight, Sights},
    starlingmonkey::NODE_REMEDY,
};
use crate::{BuildError, Missing, toolchain};

/// Where npm puts TypeScript's compiler: in the project, or in a folder around it when several projects share one.
const COMPILER: &str = "node_modules/.bin/tsc";

/// Checks a project in TypeScript, or one whose JavaScript is checked by a tsconfig.json. Gives what was looked at since
/// `begin`: a file that holds types alone is no part of the component, and a change of it is to be seen all the same; and so
/// is a compiler that comes.
pub(super) fn check(folder: &Path, entry: &Path, begin: Moment) -> Result<Sights, BuildError> {
    let is_typescript = entry.extension().is_some_and(|end| end == "ts" || end == "mts");
    let config = folder.join("tsconfig.json");
    if !is_typescript && !config.is_file() {
        return Ok(vec![(config.clone(), Sight::of(&config))]);
    }
    let (compiler, mut sights) = compiler(folder);
    let is_wanted =
        std::fs::read_to_string(folder.join("package.json")).is_ok_and(|text| text.contains("\"typescript\""));
    let typescript =
        if is_wanted { "TypeScript yet: npm install" } else { "TypeScript: npm install --save-dev typescript" };
    sights.push((config.clone(), Sight::of(&config)));
    let compiler = compiler.ok_or(typescript);
    let found = compiler.and_then(|compiler| if config.is_file() { Ok(compiler) } else { Err("tsconfig.json") });
    let compiler = match found {
        Ok(compiler) => compiler,
        Err(what) => {
            let _ = writeln!(std::io::stderr(), "types are taken out, not checked: this project has no {what}");
            return Ok(sights);
        }
    };
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
    let files = files.into_iter().map(PathBuf::from).chain([config]);
    sights.extend(files.map(|file| {
        let sight = Sight::read_since(&file, begin);
        (file, sight)
    }));
    Ok(sights)
}

/// The nearest compiler, and what was seen where it was looked for.
fn compiler(folder: &Path) -> (Option<PathBuf>, Sights) {
    let mut sights = Vec::new();
    for folder in folder.ancestors() {
        let compiler = folder.join(COMPILER);
        sights.push((compiler.clone(), Sight::of(&compiler)));
        if compiler.is_file() {
            return (Some(compiler), sights);
        }
    }
    (None, sights)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// With a compiler that says what tsc says.
    #[test]
    fn what_was_looked_at_is_an_input_and_an_error_ends_the_build() {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().canonicalize().unwrap().join("plugins/one");
        fs::create_dir_all(root).unwrap();
        let entry = root.join("index.ts");
        let stamp = root.join("stamp");
        fs::write(root.join("model.ts"), "1").unwrap();
        let check = |entry: &Path| check(root, entry, Moment::now(&stamp).unwrap());
        let config = (root.join("tsconfig.json"), Sight::Nothing);
        assert_eq!(check(&root.join("index.js")).unwrap(), std::slice::from_ref(&config));
        // A compiler that comes later is seen, wherever around the project it comes.
        let places = |sights: &[(PathBuf, Sight)]| sights.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        let looked_at = places(&check(&entry).unwrap());
        assert!([root.as_path(), folder.path()].iter().all(|folder| looked_at.contains(&folder.join(COMPILER))));
        assert!(check(&entry).unwrap().iter().all(|(_, sight)| *sight == Sight::Nothing));
        // Several projects share it.
        let compiler = folder.path().canonicalize().unwrap().join(COMPILER);
        fs::create_dir_all(compiler.parent().unwrap()).unwrap();
        let says = |script: &str| toolchain::put_tool(&compiler, script);
        says("exit 1");
        assert!(check(&entry).unwrap().contains(&config));
        fs::write(root.join("tsconfig.json"), "{}").unwrap();
        assert!(matches!(check(&entry), Err(BuildError::Compile(_))));
        says("echo /nowhere/lib.d.ts; echo $PWD/model.ts");
        let looked_at = places(&check(&entry).unwrap());
        for file in [compiler.clone(), "/nowhere/lib.d.ts".into(), root.join("model.ts"), root.join("tsconfig.json")] {
            assert!(looked_at.contains(&file), "{looked_at:?}");
        }
        // Saved while it is checked.
        says("echo $PWD/model.ts; echo 2 > model.ts");
        assert!(check(&entry).unwrap().contains(&(root.join("model.ts"), Sight::Unsettled)));
    }
}
