//! What somebody names as a component on the command line: one reading for all commands.

use std::{fs, path::Path};

use macula_node::{deploy::PackageQuery, wire::Mcid};

use crate::failure::Failure;

/// What an argument names. What is there on the disk comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// Something that is no folder; reading it tells whether it is a regular file.
    File,
    /// A folder, with the source of a plugin.
    Folder,
    /// Content.
    Content(Mcid),
    /// A package of the registry.
    Package(PackageQuery),
    /// None of these: a file that is not there, or a word.
    Nothing,
}

impl Named {
    /// What `argument` names.
    ///
    /// # Errors
    /// It reads as a content id or a package, and is none.
    pub(crate) fn parse(argument: &Path) -> Result<Self, Failure> {
        if argument.is_dir() {
            return Ok(Self::Folder);
        }
        // A link that leads nowhere, or in a circle, is there too.
        if fs::symlink_metadata(argument).is_ok() {
            return Ok(Self::File);
        }
        let text = argument.to_string_lossy();
        let reads_as_path = text.contains('/') || text.ends_with(".wasm");
        if text.starts_with("bafkr") && !reads_as_path && !text.contains('.') {
            return text.parse().map(Self::Content).map_err(Failure::usage);
        }
        if text.contains('@') && !reads_as_path {
            return text.parse().map(Self::Package).map_err(Failure::usage);
        }
        Ok(if reads_as_path { Self::File } else { Self::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_on_the_disk_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("io.example.greeter@1.2.0");
        fs::write(&package, "").unwrap();
        symlink("round", folder.path().join("round")).unwrap();
        assert_eq!(Named::parse(&package).unwrap(), Named::File);
        assert_eq!(Named::parse(&folder.path().join("round")).unwrap(), Named::File);
        assert_eq!(Named::parse(folder.path()).unwrap(), Named::Folder);
        assert_eq!(Named::parse(Path::new("/dev/zero")).unwrap(), Named::File);
    }

    #[test]
    fn the_rest_is_told_by_its_form() {
        let id = Mcid::of(b"x").to_string();
        assert_eq!(Named::parse(Path::new(&id)).unwrap(), Named::Content(Mcid::of(b"x")));
        assert!(matches!(Named::parse(Path::new("io.example.greeter@^1")).unwrap(), Named::Package(_)));
        assert_eq!(Named::parse(Path::new("none.wasm")).unwrap(), Named::File);
        assert_eq!(Named::parse(Path::new("calculator")).unwrap(), Named::Nothing);
        assert!(Named::parse(Path::new("bafkr4i-no-id")).is_err());
    }
}
