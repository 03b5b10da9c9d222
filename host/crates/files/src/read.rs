//! Reads a regular file of a size with a bound.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, io::Errno};

use crate::FileKind;

/// Why a file was not read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {why}", path.display())]
pub struct ReadError {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: NotRead,
}

/// What is wrong with a file that was to be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotRead {
    /// Nothing is there, or a symbolic link leads to nothing.
    #[error("there is no such file")]
    NotFound,
    /// It is no regular file. Reading from it could wait for ever, or never end.
    #[error("it is {0}; a regular file is needed")]
    Kind(FileKind),
    /// Symbolic links lead in a circle, or there are too many of them.
    #[error("its symbolic links lead in a circle")]
    LinkLoop,
    /// It is larger than what such a file may be.
    #[error("it has more than {}", size(*bytes_max))]
    TooLarge {
        /// The most that is taken.
        bytes_max: u64,
    },
    /// It holds bytes that are not UTF-8.
    #[error("it is not text in UTF-8")]
    NotText,
    /// The system says why.
    #[error("{0}")]
    Io(#[source] io::Error),
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// See [`NotRead`].
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    let at = |why| ReadError { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    // One byte more than it may have, so that a file that grows is found out too.
    let mut file = open(path)?.take(bytes_max.saturating_add(1));
    file.read_to_end(&mut bytes).map_err(|error| at(NotRead::Io(error)))?;
    if bytes.len() as u64 > bytes_max {
        return Err(at(NotRead::TooLarge { bytes_max }));
    }
    Ok(bytes)
}

/// Reads a whole file of text. A byte-order mark at its beginning, which some editors write, is left out.
///
/// # Errors
/// See [`NotRead`].
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, ReadError> {
    let mut bytes = read(path, bytes_max)?;
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|_| ReadError { path: path.to_owned(), why: NotRead::NotText })
}

/// Opens a regular file for reading; never waits.
///
/// # Errors
/// See [`NotRead`]; never [`NotRead::TooLarge`] and [`NotRead::NotText`].
pub fn open(path: &Path) -> Result<File, ReadError> {
    opened(path).map_err(|why| ReadError { path: path.to_owned(), why })
}

fn opened(path: &Path) -> Result<File, NotRead> {
    // Opening can have effects on a device, so what it is comes first.
    check(&fs::metadata(path)?)?;
    // Something else may lie there by now: a FIFO, opened like this, does not wait for a writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(metadata: &fs::Metadata) -> Result<(), NotRead> {
    match FileKind::of(metadata) {
        FileKind::Regular => Ok(()),
        other => Err(NotRead::Kind(other)),
    }
}

impl From<io::Error> for NotRead {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound,
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Self::LinkLoop,
            _ => Self::Io(error),
        }
    }
}

/// A bound, in the unit in which it was chosen.
fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn refused(path: &Path) -> String {
        read(path, 64 << 10).unwrap_err().why.to_string()
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, "\u{feff}name").unwrap();
        assert_eq!(read_text(&path, 7).unwrap(), "name");
        assert_eq!(read(&path, 7).unwrap().len(), 7);
        let error = read(&path, 6).unwrap_err().to_string();
        assert_eq!(error, format!("cannot read {}: it has more than 6 bytes", path.display()));
        fs::write(&path, b"\xff").unwrap();
        assert!(matches!(read_text(&path, 7).unwrap_err().why, NotRead::NotText));
        let sparse = File::create(folder.path().join("sparse")).unwrap();
        sparse.set_len(6 << 30).unwrap();
        assert_eq!(refused(&folder.path().join("sparse")), "it has more than 64 KiB");
    }

    #[test]
    fn what_is_no_regular_file_is_named_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink("fifo", at("link")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(refused(&at("fifo")), "it is a FIFO (named pipe); a regular file is needed");
        assert_eq!(refused(&at("link")), "it is a FIFO (named pipe); a regular file is needed");
        assert_eq!(refused(&at("socket")), "it is a socket; a regular file is needed");
        assert_eq!(refused(&at("round")), "its symbolic links lead in a circle");
        assert_eq!(refused(&at("dangling")), "there is no such file");
        assert_eq!(refused(&at("none")), "there is no such file");
        assert_eq!(refused(folder.path()), "it is a folder; a regular file is needed");
        assert_eq!(refused(Path::new("/dev/zero")), "it is a device; a regular file is needed");
    }
}
