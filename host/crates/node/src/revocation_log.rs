//! Revocations on disk: a file that is only ever added to.
//!
//! Each entry is `length (u32, little endian, of what follows) | realm id (32 bytes) | signed revocation`, flushed before
//! the next. A tail that was cut short by a crash is skipped and written over; a file that is damaged in any other way is
//! not touched: what it may still hold is in force nowhere else.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::RangeInclusive,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::JoinHandle,
};

use macula_auth::ucan::limits::TOKEN_BYTES_MAX;
use macula_wire::RealmId;
use parking_lot::Mutex;

/// Bytes of the file at most: more revocations than any realm takes. Further ones are in force until the node stops.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Realm id and the length before it.
const HEADER_BYTES: usize = 4 + 32;

/// Of an entry, after the length: a realm id, and a token with something in it.
const ENTRY_BYTES: RangeInclusive<usize> = 33..=32 + TOKEN_BYTES_MAX;

/// One entry: the realm, and the signed revocation.
pub type LoggedRevocation = (RealmId, Vec<u8>);

/// Where revocations are kept. Cheap to clone; the last to be dropped waits until everything is written.
#[derive(Debug, Clone)]
pub struct RevocationLog(Arc<Writer>);

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: Arc<Mutex<File>>,
    /// To the thread that writes; gone when that is to end.
    later: Mutex<Option<Sender<Later>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Later {
    Append(RealmId, Vec<u8>),
    /// Everything before is written.
    Reached(SyncSender<()>),
}

impl RevocationLog {
    /// Opens the log, making it when it is not there, and gives what it holds.
    ///
    /// # Errors
    /// When it can be neither read nor made; [`io::ErrorKind::InvalidData`] when it is damaged.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<LoggedRevocation>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = Vec::new();
        // Others may be writing to it at this moment.
        file.lock()?;
        (&mut file).take(LOG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let (entries, whole) = entries(&bytes, path)?;
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
        }
        file.unlock()?;
        let writer = Writer {
            path: path.to_owned(),
            file: Arc::new(Mutex::new(file)),
            later: Mutex::default(),
            thread: Mutex::default(),
        };
        Ok((Self(Arc::new(writer)), entries))
    }

    /// What a log holds that somebody else writes; nothing when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is damaged.
    pub fn read(path: &Path) -> io::Result<Vec<LoggedRevocation>> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(LOG_BYTES_MAX + 1).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(entries(&bytes, path)?.0)
    }

    /// Adds one, durably. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// When it cannot be written; the file is as it was.
    pub fn append(&self, realm: &RealmId, revocation: &[u8]) -> io::Result<()> {
        self.0.append(realm, revocation)
    }

    /// Adds one without waiting for the disk; what goes wrong is logged. In order, by a thread of this log's. What waits is
    /// bounded by what a realm takes, since each revocation is new only once.
    pub fn append_later(&self, realm: &RealmId, revocation: &[u8]) {
        self.0.later(Later::Append(*realm, revocation.to_vec()), &Arc::clone(&self.0.file));
    }

    /// Waits until everything that was to be added later is on disk, or was reported.
    pub fn flush(&self) {
        let (reached, is_reached) = sync_channel(1);
        if self.0.later.lock().is_some() {
            self.0.later(Later::Reached(reached), &Arc::clone(&self.0.file));
            // Fails when the writer has ended, and then nothing waits.
            let _ = is_reached.recv();
        }
    }
}

impl Writer {
    /// Hands something to the thread that writes, which is started when it is first needed.
    fn later(&self, later: Later, file: &Arc<Mutex<File>>) {
        let mut sender = self.later.lock();
        if sender.is_none() {
            let (new, received) = channel();
            let (path, file) = (self.path.clone(), Arc::clone(file));
            let thread = std::thread::Builder::new().name("macula-revoked".into());
            match thread.spawn(move || write_all(&path, &file, &received)) {
                Ok(thread) => (*sender, *self.thread.lock()) = (Some(new), Some(thread)),
                Err(error) => {
                    return tracing::error!(%error, "a revocation is in force but not on disk");
                }
            }
        }
        if let Some(sender) = &*sender {
            // The thread ends after its sender only.
            let _ = sender.send(later);
        }
    }

    fn append(&self, realm: &RealmId, revocation: &[u8]) -> io::Result<()> {
        append(&mut self.file.lock(), &entry(realm, revocation))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.later.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of it has been reported.
            let _ = thread.join();
        }
    }
}

fn write_all(path: &Path, file: &Mutex<File>, received: &Receiver<Later>) {
    while let Ok(first) = received.recv() {
        let (mut bytes, mut waiting) = (Vec::new(), Vec::new());
        // Everything that is there is written at once: the disk takes as long for one as for many.
        for later in std::iter::once(first).chain(received.try_iter()) {
            match later {
                Later::Append(realm, revocation) => bytes.extend(entry(&realm, &revocation)),
                Later::Reached(reached) => waiting.push(reached),
            }
        }
        if !bytes.is_empty()
            && let Err(error) = append(&mut file.lock(), &bytes)
        {
            tracing::error!(path = %path.display(), %error, "revocations are in force but not on disk");
        }
        for reached in waiting {
            // Whoever waited may have given up.
            let _ = reached.send(());
        }
    }
}

fn entry(realm: &RealmId, revocation: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEADER_BYTES + revocation.len());
    entry.extend_from_slice(&(32 + revocation.len() as u32).to_le_bytes());
    entry.extend_from_slice(realm.as_bytes());
    entry.extend_from_slice(revocation);
    entry
}

/// Adds whole entries under the file's lock: short-lived processes of one home share a file.
fn append(file: &mut File, entries: &[u8]) -> io::Result<()> {
    file.lock()?;
    let outcome = append_locked(file, entries);
    file.unlock()?;
    outcome
}

fn append_locked(file: &mut File, entries: &[u8]) -> io::Result<()> {
    let end = file.seek(SeekFrom::End(0))?;
    if end + entries.len() as u64 > LOG_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the log of revocations is full"));
    }
    let written = file.write_all(entries).and_then(|()| file.sync_data());
    if written.is_err() {
        // Half an entry would hide what is written after it.
        let _ = file.set_len(end);
    }
    written
}

/// The whole entries, and how many bytes they take; what follows them was cut short.
fn entries(bytes: &[u8], path: &Path) -> io::Result<(Vec<LoggedRevocation>, usize)> {
    let damaged = |at: usize| {
        let message = format!(
            "the log of revocations {} is damaged at byte {at}; put a copy in its place, or move it away and revoke again",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    if bytes.len() as u64 > LOG_BYTES_MAX {
        return Err(damaged(LOG_BYTES_MAX as usize));
    }
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some(length) = bytes[at..].first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if !ENTRY_BYTES.contains(&length) {
            return Err(damaged(at));
        }
        let Some(entry) = bytes[at + 4..].get(..length) else { break };
        let (realm, revocation) = entry.split_at(32);
        entries.push((RealmId::from_bytes(realm.try_into().expect("split at 32")), revocation.to_vec()));
        at += 4 + length;
    }
    Ok((entries, at))
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

    /// Goal: a flipped bit does not bring back what was revoked.
    #[test]
    fn what_is_damaged_is_said_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations");
        let (log, _) = RevocationLog::open(&path).unwrap();
        log.append(&realm(1), b"first").unwrap();
        log.append(&realm(2), b"second").unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for (at, bit) in [(3, 0x80), (2, 0x01), (0, 0x25), (HEADER_BYTES + 5 + 3, 0x01)] {
            let mut damaged = whole.clone();
            damaged[at] ^= bit;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(RevocationLog::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "byte {at}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged, "untouched");
        }
    }

    #[test]
    fn what_is_written_later_is_written_in_order_and_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations");
        let (log, _) = RevocationLog::open(&path).unwrap();
        let (other, _) = RevocationLog::open(&path).unwrap();
        for number in 0..50 {
            log.append_later(&realm(number), &[number]);
            other.append(&realm(number), b"another process").unwrap();
        }
        log.flush();
        let own = RevocationLog::read(&path).unwrap().into_iter().filter(|(_, entry)| entry.len() == 1);
        assert_eq!(own.map(|(_, entry)| entry[0]).collect::<Vec<_>>(), (0..50).collect::<Vec<u8>>());
        log.append_later(&realm(99), b"last");
        drop(log);
        assert_eq!(RevocationLog::read(&path).unwrap().len(), 101);
    }
}
