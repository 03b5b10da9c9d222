//! Revocations on disk: a file that is only ever added to.
//!
//! Each entry is `length (u32, little endian, of what follows) | realm id (32 bytes) | signed revocation`, flushed before
//! the next. A tail that was cut short by a crash is skipped and written over.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use macula_wire::RealmId;
use parking_lot::Mutex;

/// Bytes of the file at most: more revocations than any realm takes. Further ones are in force until the node stops.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Realm id and the length before it.
const HEADER_BYTES: usize = 4 + 32;

/// One entry: the realm, and the signed revocation.
pub type LoggedRevocation = (RealmId, Vec<u8>);

/// Where revocations are kept. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RevocationLog {
    path: Arc<Path>,
    file: Arc<Mutex<File>>,
}

impl RevocationLog {
    /// Opens the log, making it when it is not there, and gives what it holds.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<LoggedRevocation>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        let (entries, whole) = entries(&bytes);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self { path: path.into(), file: Arc::new(Mutex::new(file)) }, entries))
    }

    /// What a log holds that somebody else writes; nothing when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<Vec<LoggedRevocation>> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(entries(&bytes).0)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    /// Adds one, durably. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// When it cannot be written; the file is as it was.
    pub fn append(&self, realm: &RealmId, revocation: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock();
        let end = file.seek(SeekFrom::End(0))?;
        if end + (HEADER_BYTES + revocation.len()) as u64 > LOG_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the log of revocations is full"));
        }
        let mut entry = Vec::with_capacity(HEADER_BYTES + revocation.len());
        entry.extend_from_slice(&(32 + revocation.len() as u32).to_le_bytes());
        entry.extend_from_slice(realm.as_bytes());
        entry.extend_from_slice(revocation);
        let written = file.write_all(&entry).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half an entry would hide what is written after it.
            let _ = file.set_len(end);
        }
        written
    }
}

/// The whole entries, and how many bytes they take.
fn entries(bytes: &[u8]) -> (Vec<LoggedRevocation>, usize) {
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some(length) = bytes[at..].first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(entry) = bytes[at + 4..].get(..length).filter(|entry| entry.len() >= 32) else { break };
        let (realm, revocation) = entry.split_at(32);
        entries.push((RealmId::from_bytes(realm.try_into().expect("split at 32")), revocation.to_vec()));
        at += 4 + length;
    }
    (entries, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(seed: u8) -> RealmId {
        RealmId::from_bytes([seed; 32])
    }

    #[test]
    fn what_was_written_is_there_again_and_a_torn_tail_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations");
        let (log, before) = RevocationLog::open(&path).unwrap();
        assert!(before.is_empty());
        log.append(&realm(1), b"first").unwrap();
        log.append(&realm(2), b"second").unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (log, entries) = RevocationLog::open(&path).unwrap();
            let expected = usize::from(cut >= HEADER_BYTES + 5);
            assert_eq!(entries.len(), expected, "cut at {cut}");
            log.append(&realm(3), b"third").unwrap();
            assert_eq!(RevocationLog::read(&path).unwrap().last(), Some(&(realm(3), b"third".to_vec())));
        }
        assert_eq!(RevocationLog::read(&directory.path().join("none")).unwrap(), []);
    }
}
