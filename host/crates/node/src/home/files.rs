//! Private files: made for this user alone, and written as a whole.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use ed25519_dalek::SigningKey;
use macula_files::{Draft, Mode, NotRead, ReadError, WriteError, is_draft};
use zeroize::Zeroizing;

use super::HomeError;

/// Whether there is nothing at a path, also because there is no folder for it.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What a file of the home holds; `None` where there is none. What has more than `bytes_max` bytes was not written by a node.
pub(super) fn stored(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, HomeError> {
    match macula_files::read(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ReadError { why: NotRead::NotFound, .. }) => Ok(None),
        Err(ReadError { path, why: NotRead::Io(error) }) => Err(HomeError::Io { action: "read", path, error }),
        Err(ReadError { path, why }) => Err(HomeError::Damaged { path, reason: why.to_string() }),
    }
}

/// Removes what writes that were cut short left behind `patience` ago; none is needed under the directory's lock.
pub(super) fn remove_drafts(directory: &Path, patience: Duration) {
    let is_old = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|file| file.modified()).ok();
        modified.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age >= patience)
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if is_draft(&entry.file_name().to_string_lossy()) && (patience.is_zero() || is_old(&entry)) {
            // Tried again at the next start.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes a directory for this user alone. One that is there is left as it is: whoever made it chose who may enter, and
/// everything private inside has a mode of its own.
pub(super) fn make_directory(path: &Path) -> Result<(), HomeError> {
    let failed = |error| HomeError::Io { action: "make", path: path.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}

/// Reads the key at `path`, or makes one; of several processes at once, one wins and all get its key.
pub(super) fn key_at(path: &Path) -> Result<SigningKey, HomeError> {
    if !path.exists() {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the operating system has randomness");
        let mut text = Zeroizing::new(String::with_capacity(64));
        for byte in seed.iter() {
            text.push_str(&format!("{byte:02x}"));
        }
        write_first(path, text.as_bytes())?;
    }
    read_key(path)
}

/// Writes a private file if there is none; of several processes at once, one wins.
pub(super) fn write_first(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    let written = Draft::at(path, Mode::Private).and_then(|draft| {
        let failed = |error| WriteError { path: path.to_owned(), error };
        draft.file().write_all(content).map_err(failed)?;
        draft.put_new()
    });
    written.map(drop).map_err(not_written)
}

pub(super) fn read_key(path: &Path) -> Result<SigningKey, HomeError> {
    let failed = |error| HomeError::Io { action: "read", path: path.to_owned(), error };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(HomeError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(failed)?;
    let digits = text.trim();
    let mut seed = Zeroizing::new([0; 32]);
    let is_hex = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex {
        return Err(HomeError::Damaged {
            path: path.to_owned(),
            reason: "expected a key of 64 hexadecimal digits".into(),
        });
    }
    for (index, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).expect("checked digits");
    }
    Ok(SigningKey::from_bytes(&seed))
}

pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    macula_files::write_private(path, content).map_err(not_written)
}

fn not_written(WriteError { path, error }: WriteError) -> HomeError {
    HomeError::Io { action: "write", path, error }
}
