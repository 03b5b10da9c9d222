//! What a project's files, and those around it that it is built with, are like at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Folders that compilers fill, and scenarios, where they lie in the project's own folder; deeper they are like others
/// (`src/build/mod.rs`).
const NOT_SOURCE: [&str; 3] = ["target", "build", "scenarios"];

/// The folder that package managers fill, wherever it lies.
const INSTALLED: &str = "node_modules";

/// Lies in folders that can be made anew at any time, by convention; cargo puts it into each folder that it builds in.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// What begins with a dot is an editor's or a tool's, but this configures cargo.
const CONFIGURATION: &str = ".cargo";

/// Files that are looked at; of more, changes are not seen.
pub(super) const FILES_MAX: usize = 20_000;

/// Files, and what each was like. What cannot be looked at is among them, so that it is seen when it comes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Option<Stamp>>);

/// What changes when a file does: when it was written, how long it is, and which file it is.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64, u64);

impl Snapshot {
    /// Looks at the project in `folder`, and at the files and folders `around` it.
    pub(super) fn take(folder: &Path, around: &[PathBuf]) -> Self {
        let roots = || std::iter::once(folder).chain(around.iter().map(PathBuf::as_path));
        let mut walk = Walk { tops: roots().filter_map(|root| root.canonicalize().ok()).collect(), ..Walk::default() };
        for root in roots() {
            walk.look_at(root.to_owned());
            walk.follow_links();
        }
        walk.snapshot
    }

    /// Whether there were more files than are looked at.
    pub(super) fn is_cut(&self) -> bool {
        self.0.len() >= FILES_MAX
    }
}

#[derive(Default)]
struct Walk {
    snapshot: Snapshot,
    /// Folders of projects.
    tops: BTreeSet<PathBuf>,
    /// Folders that were gone through, as the disk knows them: links may lead in a circle.
    seen: BTreeSet<(u64, u64)>,
    /// Folders that links lead to. They come last, so that one that leads to very many files hides none of the project.
    linked: Vec<PathBuf>,
}

impl Walk {
    fn follow_links(&mut self) {
        while let Some(folder) = self.linked.pop() {
            self.look_at(folder);
        }
    }

    fn look_at(&mut self, path: PathBuf) {
        if self.snapshot.is_cut() {
            return;
        }
        // Of what a link leads to.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                if self.seen.insert((metadata.dev(), metadata.ino())) {
                    self.go_through(&path);
                }
            }
            found => {
                let stamp = |found: fs::Metadata| Stamp(found.modified().ok(), found.len(), found.ino());
                self.snapshot.0.insert(path, found.ok().map(stamp));
            }
        }
    }

    fn go_through(&mut self, folder: &Path) {
        if folder.join(CACHE_TAG).is_file() {
            return;
        }
        let is_top = folder.canonicalize().is_ok_and(|folder| self.tops.contains(&folder));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Editors keep their own files beside the source.
            let is_of_editors =
                (name.starts_with('.') && name != CONFIGURATION) || name.ends_with('~') || name.ends_with(".swp");
            if is_of_editors || name == INSTALLED || (is_top && NOT_SOURCE.contains(&&*name)) {
                continue;
            }
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) && path.is_dir() {
                self.linked.push(path);
            } else {
                self.look_at(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(folder: &Path, file: &str, text: &str) {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_is_written_changes_it_and_what_is_built_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let take = || Snapshot::take(folder, &[]);
        write(folder, "src/lib.rs", "1");
        write(folder, "elsewhere/CACHEDIR.TAG", "");
        let first = take();
        for file in [
            "target/x",
            "build/x.wasm",
            "node_modules/a/index.js",
            "src/node_modules/a/index.js",
            "elsewhere/release/x",
            ".git/index",
            "src/.lib.rs.swp",
            "src/lib.rs~",
        ] {
            write(folder, file, "x");
        }
        assert_eq!(take(), first);
        write(folder, "src/lib.rs", "12");
        let second = take();
        assert_ne!(second, first);
        fs::remove_file(folder.join("src/lib.rs")).unwrap();
        assert_ne!(take(), second);
    }

    #[test]
    fn names_of_what_is_built_are_source_deeper_in_the_project() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, "src/lib.rs", "1");
        for file in ["src/build/mod.rs", "src/target/mod.rs", "src/scenarios/mod.rs", ".cargo/config.toml"] {
            let before = Snapshot::take(folder, &[]);
            write(folder, file, "1");
            let with = Snapshot::take(folder, &[]);
            assert_ne!(with, before, "{file}");
            write(folder, file, "12");
            assert_ne!(Snapshot::take(folder, &[]), with, "{file}");
        }
    }

    #[test]
    fn what_links_lead_to_is_looked_at_and_circles_end() {
        let folder = tempfile::tempdir().unwrap();
        let (project, other) = (folder.path().join("project"), folder.path().join("other"));
        write(&project, "src/lib.rs", "1");
        write(&other, "file.rs", "1");
        write(&other, "sub/mod.rs", "1");
        symlink(other.join("file.rs"), project.join("src/file.rs")).unwrap();
        symlink(other.join("sub"), project.join("src/sub")).unwrap();
        symlink(&project, project.join("src/round")).unwrap();
        symlink(other.join("none.rs"), project.join("src/none.rs")).unwrap();
        for file in ["file.rs", "sub/mod.rs", "sub/more.rs", "none.rs"] {
            let before = Snapshot::take(&project, &[]);
            write(&other, file, "12");
            assert_ne!(Snapshot::take(&project, &[]), before, "{file}");
        }
        // Another file in its place, as long and as old.
        let before = Snapshot::take(&project, &[]);
        let (old, new) = (other.join("file.rs"), folder.path().join("new.rs"));
        fs::write(&new, "34").unwrap();
        let modified = fs::metadata(&old).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
        fs::rename(new, old).unwrap();
        assert_ne!(Snapshot::take(&project, &[]), before);
    }

    #[test]
    fn what_lies_around_is_looked_at_without_what_is_built_there() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path();
        let project = workspace.join("plugins/one");
        write(&project, "src/lib.rs", "1");
        write(workspace, "lib/src/lib.rs", "1");
        let around = [workspace.to_owned(), workspace.join("lib"), workspace.join("none/Cargo.lock")];
        let take = || Snapshot::take(&project, &around);
        let first = take();
        for file in ["target/x", "plugins/one/build/x.wasm", "plugins/one/target/x", "node_modules/x", "lib/target/x"] {
            write(workspace, file, "x");
        }
        assert_eq!(take(), first);
        for file in ["lib/src/lib.rs", "Cargo.toml", "none/Cargo.lock"] {
            let before = take();
            write(workspace, file, "12");
            assert_ne!(take(), before, "{file}");
        }
    }
}
