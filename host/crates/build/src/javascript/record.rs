//! What the last build of a project was made of, and whether that is still there.
//!
//! The builder says what it saw on the disk while it looked for modules ([`Sight`]), so a file that is saved during a build
//! is another one afterwards. What a compiler looked at without saying what it found there counts if it was written before
//! the compiler began ([`Moment`]); otherwise nothing is known of it, and the next build does all anew.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What is read of a file, be it a module or a component; one that is larger is built from anew each time.
const BYTES_MAX: u64 = 256 << 20;

/// What a component is made of. As long as it is the same, and what was seen on the disk is, so is the component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) builder: String,
    pub(super) engine: String,
    pub(super) entry: PathBuf,
    pub(super) manifest: Option<String>,
}

/// Paths, and what was seen there. A path may be there more than once.
pub(super) type Sights = Vec<(PathBuf, Sight)>;

/// What was seen at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sight {
    /// No file, folder or symbolic link.
    Nothing,
    /// A folder.
    Folder,
    /// A regular file, whatever is in it.
    File,
    /// A symbolic link, and where it says that it leads.
    Link(PathBuf),
    /// A file that was read: the BLAKE3 digest of its bytes, in hexadecimal.
    Read(String),
    /// A file that was written while it was read: nobody knows what was seen.
    Unsettled,
}

impl Sight {
    /// What lies there, whatever is in it.
    pub(super) fn of(path: &Path) -> Self {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => fs::read_link(path).map_or(Self::Nothing, Self::Link),
            Ok(metadata) if metadata.is_dir() => Self::Folder,
            Ok(metadata) if metadata.is_file() => Self::File,
            _ => Self::Nothing,
        }
    }

    /// A file with these bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self::Read(blake3::hash(bytes).to_hex().to_string())
    }

    /// What somebody has read since `begin`.
    pub(super) fn read_since(path: &Path, begin: Moment) -> Self {
        let sight = macula_files::read(path, BYTES_MAX).map_or(Self::Unsettled, |bytes| Self::of_bytes(&bytes));
        // Asked afterwards: what is written from now on is no matter of this build.
        let is_older = fs::metadata(path).is_ok_and(|metadata| Moment::of(&metadata) < begin);
        if is_older { sight } else { Self::Unsettled }
    }

    /// Whether the same is seen there now.
    fn is_there(&self, path: &Path) -> bool {
        match self {
            Self::Unsettled => false,
            Self::Read(_) => macula_files::read(path, BYTES_MAX).is_ok_and(|bytes| Self::of_bytes(&bytes) == *self),
            // One that was not read then leads to the same whatever became of it, as long as it is a file.
            Self::Nothing | Self::Folder | Self::File | Self::Link(_) => Self::of(path) == *self,
        }
    }
}

/// A moment, by the clock that stamps files where the project lies: seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64, i64);

impl Moment {
    /// Now, as the file shows that is written for this.
    pub(super) fn now(file: &Path) -> io::Result<Self> {
        fs::write(file, "")?;
        let now = fs::metadata(file).map(|metadata| Self::of(&metadata));
        let _ = fs::remove_file(file);
        now
    }

    /// When something was last written, renamed or put in another's place. When it was modified does not tell: an older
    /// file may be moved there.
    fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.ctime(), metadata.ctime_nsec())
    }
}

/// What the last build was made of.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    recipe: Recipe,
    sights: Sights,
}

impl Record {
    pub(super) fn new(recipe: Recipe, sights: Sights) -> Self {
        Self { recipe, sights }
    }

    /// The record of the last build; nothing when there was none, or one of another version of this program.
    pub(super) fn read(file: &Path) -> Option<Self> {
        macula_files::read(file, BYTES_MAX).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// Without a record the next build does more than it must, and nothing else.
    pub(super) fn write(&self, file: &Path) {
        if let Ok(bytes) = serde_json::to_vec(self) {
            let _ = macula_files::write(file, &bytes);
        }
    }

    /// Files that were read.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let is_read = |sight: &Sight| matches!(sight, Sight::Read(_) | Sight::Unsettled);
        self.sights.iter().filter(move |(_, sight)| is_read(sight)).map(|(path, _)| path.as_path())
    }

    /// Whether a build would make the same again.
    pub(super) fn is_unchanged(&self, recipe: &Recipe) -> bool {
        self.recipe == *recipe && self.sights.iter().all(|(path, sight)| sight.is_there(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            builder: "b".into(),
            engine: "quickjs".into(),
            entry: "index.js".into(),
            manifest: Some("name = \"x\"".into()),
        }
    }

    #[test]
    fn a_build_is_the_same_until_something_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("index.js");
        let file = folder.path().join("record");
        fs::write(&input, "1").unwrap();
        let is_unchanged = |recipe: &Recipe| Record::read(&file).is_some_and(|record| record.is_unchanged(recipe));
        assert!(!is_unchanged(&recipe()));
        Record::new(recipe(), vec![(input.clone(), Sight::of_bytes(b"1"))]).write(&file);
        assert!(is_unchanged(&recipe()));
        for other in [
            Recipe { builder: "c".into(), ..recipe() },
            Recipe { engine: "starlingmonkey 0.23.0".into(), ..recipe() },
            Recipe { entry: "other.js".into(), ..recipe() },
            Recipe { manifest: None, ..recipe() },
        ] {
            assert!(!is_unchanged(&other), "{other:?}");
        }
        fs::write(&input, "2").unwrap();
        assert!(!is_unchanged(&recipe()));
        fs::remove_file(&input).unwrap();
        assert!(!is_unchanged(&recipe()));
        fs::write(&file, "of another version").unwrap();
        assert!(!is_unchanged(&recipe()));
    }

    /// Each way in which a specifier could lead elsewhere.
    #[test]
    fn what_modules_were_looked_for_by_is_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.js"), "").unwrap();
        fs::create_dir(at("lib")).unwrap();
        std::os::unix::fs::symlink("lib", at("link")).unwrap();
        let sights = ["a.js", "lib", "link", "none.ts"].map(|name| (at(name), Sight::of(&at(name))));
        let expected = [Sight::File, Sight::Folder, Sight::Link("lib".into()), Sight::Nothing];
        assert!(sights.iter().map(|(_, sight)| sight).eq(&expected));
        let record = Record::new(recipe(), sights.to_vec());
        assert!(record.is_unchanged(&recipe()));
        // What it holds does not matter, where it leads does.
        fs::write(at("a.js"), "2").unwrap();
        assert!(record.is_unchanged(&recipe()));
        fs::write(at("none.ts"), "").unwrap();
        assert!(!record.is_unchanged(&recipe()));
        fs::remove_file(at("none.ts")).unwrap();
        fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("./lib", at("link")).unwrap();
        assert!(!record.is_unchanged(&recipe()));
    }

    #[test]
    fn what_is_written_while_a_compiler_reads_is_not_taken_for_what_it_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, stamp) = (folder.path().join("model.ts"), folder.path().join("stamp"));
        fs::write(&file, "1").unwrap();
        // The clock of files may stand still for some milliseconds.
        let begin = loop {
            let now = Moment::now(&stamp).unwrap();
            if now > Moment::of(&fs::metadata(&file).unwrap()) {
                break now;
            }
        };
        assert_eq!(Sight::read_since(&file, begin), Sight::of_bytes(b"1"));
        fs::write(&file, "2").unwrap();
        assert_eq!(Sight::read_since(&file, begin), Sight::Unsettled);
        assert!(!Record::new(recipe(), vec![(file, Sight::Unsettled)]).is_unchanged(&recipe()));
        assert_eq!(Sight::read_since(&folder.path().join("gone.ts"), begin), Sight::Unsettled);
    }
}
