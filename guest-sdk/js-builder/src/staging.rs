//! A plugin's modules and its world as files, for tools other than this one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Writes the component's first module as `entry.js`, the others where it looks for them, and below `wit/` the world
/// `component` with the contract's files.
pub fn write(
    folder: &Path,
    entry: &str,
    modules: &BTreeMap<PathBuf, String>,
    world: &str,
    contract: &Path,
) -> Result<()> {
    file(&folder.join("entry.js"), entry)?;
    for (path, text) in modules {
        file(&folder.join(path), text)?;
    }
    let wit = folder.join("wit");
    file(&wit.join("component.wit"), world)?;
    for found in fs::read_dir(contract).with_context(|| contract.display().to_string())? {
        let found = found?;
        let text = fs::read_to_string(found.path()).with_context(|| found.path().display().to_string())?;
        file(&wit.join("deps/contract").join(found.file_name()), &text)?;
    }
    Ok(())
}

fn file(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).and_then(|()| fs::write(path, text)).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::world;

    #[test]
    fn other_tools_find_modules_and_world() {
        let folder = std::env::temp_dir().join(format!("macula-staging-{}", std::process::id()));
        let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let imports = BTreeSet::from(["pubsub".to_owned()]);
        let modules = BTreeMap::from([("app/src/a.js".into(), "export {}".to_owned())]);
        write(&folder, "import './app/src/a.js'", &modules, &world::text(&imports, &["lifecycle"]), &contract).unwrap();
        assert!(folder.join("entry.js").is_file() && folder.join("app/src/a.js").is_file());
        let mut resolve = wit_parser::Resolve::default();
        let (package, _) = resolve.push_dir(folder.join("wit")).unwrap();
        let world = resolve.select_world(&[package], Some("component")).unwrap();
        assert_eq!(resolve.worlds[world].exports.len(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
