//! What a project's files are like at one moment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Folders that compilers and package managers fill.
const NOT_SOURCE: [&str; 4] = ["target", "build", "node_modules", "scenarios"];

/// Files that are looked at; of more, changes are not seen.
const FILES_MAX: usize = 20_000;

/// Files, when they were written and how long they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, (Option<SystemTime>, u64)>);

impl Snapshot {
    pub(super) fn take(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        walk(folder, &mut files);
        Self(files)
    }
}

fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, (Option<SystemTime>, u64)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Editors keep their own files beside the source.
        if name.starts_with('.') || name.ends_with('~') || name.ends_with(".swp") || files.len() >= FILES_MAX {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !NOT_SOURCE.contains(&&*name) {
                walk(&entry.path(), files);
            }
        } else if let Ok(metadata) = entry.metadata() {
            files.insert(entry.path(), (metadata.modified().ok(), metadata.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_changes_it_and_what_is_built_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "1");
        let first = Snapshot::take(folder.path());
        for file in
            ["target/x", "build/x.wasm", "node_modules/a/index.js", ".git/index", "src/.lib.rs.swp", "src/lib.rs~"]
        {
            write(file, "x");
        }
        assert_eq!(Snapshot::take(folder.path()), first);
        write("src/lib.rs", "12");
        let second = Snapshot::take(folder.path());
        assert_ne!(second, first);
        fs::remove_file(folder.path().join("src/lib.rs")).unwrap();
        assert_ne!(Snapshot::take(folder.path()), second);
    }
}
