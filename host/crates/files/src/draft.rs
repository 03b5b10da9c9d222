//! A file that is written as a whole, or not at all.
//!
//! A draft has no name while it is written, where the system can do that (`O_TMPFILE`), and a name of its own beside its place
//! otherwise; so drafts of several processes never meet, and what is cut short is gone. When it is put, it is
//! flushed, takes its place by a rename, and the folder is flushed.
//!
//! What is at the place decides how it is written: a symbolic link is followed, and the file that it leads to is replaced,
//! with its mode and owner; what is no regular file (`/dev/stdout`, a FIFO) is written as it is, once all is there;
//! a folder is refused at once.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, OFlags, accessat, linkat},
    io::Errno,
};

use crate::FileKind;

/// Links that are followed before they are taken for a circle; what Linux does.
const LINKS_MAX: usize = 40;

/// What the name of a draft ends with.
const SUFFIX: &str = ".draft";

/// Why a file was not written. What was at its place is still there, unless only flushing its folder failed; a device or FIFO may have
/// got a part.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", path.display())]
pub struct WriteError {
    /// The place, as it was named.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub error: io::Error,
}

/// Who may read a file that is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whoever the user's umask lets; a file that is replaced keeps its mode.
    Default,
    /// The user alone, also where a file that is replaced was more open.
    Private,
}

/// What became of a draft that replaces nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutNew {
    /// It is at its place.
    Written,
    /// Something was there already, and stays.
    Taken,
}

/// A file that is being written. Dropping it leaves what is at its place.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    place: Place,
    /// The name that it has beside its place, as long as it has one.
    named: Option<PathBuf>,
}

#[derive(Debug)]
enum Place {
    /// Where the draft goes, with links followed.
    File(PathBuf),
    /// What is written to when all is there.
    Special,
}

impl Draft {
    /// Begins a file at `path`. What would keep it from being put there, now or later, is found out now as far as it can be.
    ///
    /// # Errors
    /// There is a folder or a socket, the folder for it is missing, or this user may not write there.
    pub fn at(path: &Path, mode: Mode) -> Result<Self, WriteError> {
        Self::begin(path, mode).map_err(|error| WriteError { path: path.to_owned(), error })
    }

    fn begin(path: &Path, mode: Mode) -> io::Result<Self> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it names a folder"));
        }
        let (place, spool) = match fs::metadata(path) {
            Ok(metadata) => match FileKind::of(&metadata) {
                FileKind::Folder => return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")),
                FileKind::Socket => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket")),
                FileKind::Fifo | FileKind::Device => (Place::Special, std::env::temp_dir()),
                FileKind::Regular if is_an_open_file(path) => (Place::Special, std::env::temp_dir()),
                FileKind::Regular => {
                    // A rename would replace a file that this user may not write.
                    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?;
                    place_of(path)?
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => place_of(path)?,
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Err(link_loop()),
            Err(error) => return Err(error),
        };
        let (file, named) = match &place {
            Place::File(target) => draft_in(&spool, target, mode)?,
            Place::Special => draft_in(&spool, Path::new("spool"), Mode::Private)?,
        };
        let draft = Self { file, path: path.to_owned(), place, named };
        if let (Place::File(target), Mode::Default) = (&draft.place, mode) {
            draft.take_after(target)?;
        }
        Ok(draft)
    }

    /// Takes mode and owner of the file that it replaces, if there is one.
    fn take_after(&self, target: &Path) -> io::Result<()> {
        let Ok(old) = fs::metadata(target) else { return Ok(()) };
        let mine = self.file.metadata()?;
        let is_mine = (old.uid(), old.gid()) == (mine.uid(), mine.gid());
        // Only root may give files away; for others the new file is theirs, and must not run as somebody it was not.
        let is_kept = is_mine || fchown(&self.file, Some(old.uid()), Some(old.gid())).is_ok();
        let bits = if is_kept { 0o7777 } else { 0o777 };
        self.file.set_permissions(Permissions::from_mode(old.mode() & bits))
    }

    /// What is written to. It can be read and written at any place.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes what the file holds, and puts it at its place.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn fill(mut self, content: &[u8]) -> Result<(), WriteError> {
        let written = self.file.write_all(content).and_then(|()| self.put_at_place());
        written.map_err(|error| WriteError { path: self.path.clone(), error })
    }

    /// Makes it durable and puts it at its place.
    ///
    /// # Errors
    /// The disk is full, or what is at the place does not take it. The draft is gone.
    pub fn put(mut self) -> Result<(), WriteError> {
        self.put_at_place().map_err(|error| WriteError { path: self.path.clone(), error })
    }

    fn put_at_place(&mut self) -> io::Result<()> {
        let Place::File(target) = &self.place else {
            self.file.seek(SeekFrom::Start(0))?;
            // Not truncated, and at the end: /dev/stdout may lead to a file that others write to as well.
            let mut to = OpenOptions::new().append(true).open(&self.path)?;
            return io::copy(&mut self.file, &mut to).and_then(|_| to.flush());
        };
        let target = target.clone();
        self.file.sync_all()?;
        let name = match self.named.take() {
            Some(name) => name,
            None => link_as_draft(&self.file, &target)?,
        };
        if let Err(error) = fs::rename(&name, &target) {
            self.named = Some(name);
            return Err(error);
        }
        sync_folder_of(&target)
    }

    /// Makes it durable and puts it at its place if nothing is there; of several processes at once, one wins.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written. The draft is gone.
    pub fn put_new(self) -> Result<PutNew, WriteError> {
        self.put_at_free_place().map_err(|error| WriteError { path: self.path.clone(), error })
    }

    fn put_at_free_place(&self) -> io::Result<PutNew> {
        let Place::File(target) = &self.place else { return Ok(PutNew::Taken) };
        self.file.sync_all()?;
        // Unlike a rename, a link does not replace the file of another process that was faster.
        let linked = match &self.named {
            Some(name) => fs::hard_link(name, target),
            None => link(&self.file, target),
        };
        match linked {
            Ok(()) => sync_folder_of(target).map(|()| PutNew::Written),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(PutNew::Taken),
            Err(error) => Err(error),
        }
    }
}

impl io::Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.named {
            let _ = fs::remove_file(name);
        }
    }
}

/// Writes a whole file. See [`Draft`].
///
/// # Errors
/// See [`Draft::at`] and [`Draft::put`].
pub fn write(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    write_with(path, content, Mode::Default)
}

/// Writes a whole file for this user alone. See [`Draft`].
///
/// # Errors
/// See [`Draft::at`] and [`Draft::put`].
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    write_with(path, content, Mode::Private)
}

fn write_with(path: &Path, content: &[u8], mode: Mode) -> Result<(), WriteError> {
    Draft::at(path, mode)?.fill(content)
}

/// Whether a file's name is that of a draft; one that is old was left behind by a process that was killed.
pub fn is_draft(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(SUFFIX)
}

/// A new file in `folder` that becomes `target`, and its name where it has to have one.
fn draft_in(folder: &Path, target: &Path, mode: Mode) -> io::Result<(File, Option<PathBuf>)> {
    let mode = match mode {
        Mode::Default => 0o666,
        Mode::Private => 0o600,
    };
    match unnamed(folder, mode) {
        Some(opened) => Ok((opened?, None)),
        None => {
            let name = name_in(folder, target)?;
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&name)?;
            Ok((file, Some(name)))
        }
    }
}

/// A file without a name; nothing where the system, or this file system, has no such thing.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path, mode: u32) -> Option<io::Result<File>> {
    let flags = OFlags::TMPFILE.bits().cast_signed();
    match OpenOptions::new().read(true).write(true).mode(mode).custom_flags(flags).open(folder) {
        // Kernels and file systems that do not know the flag say one of these.
        Err(error)
            if [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL]
                .iter()
                .any(|no| error.raw_os_error() == Some(no.raw_os_error())) =>
        {
            None
        }
        opened => Some(opened),
    }
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_folder: &Path, _mode: u32) -> Option<io::Result<File>> {
    None
}

/// Gives a nameless file a name beside its place.
fn link_as_draft(file: &File, target: &Path) -> io::Result<PathBuf> {
    let name = name_in(folder_of(target), target)?;
    link(file, &name).map(|()| name)
}

fn link(file: &File, name: &Path) -> io::Result<()> {
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, opened, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// A name in `folder` that nobody else uses.
fn name_in(folder: &Path, target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // A file's name has at most 255 bytes.
    let stem: String = name.chars().take(50).collect();
    let suffix = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(folder.join(format!(".{stem}.{suffix:016x}{SUFFIX}")))
}

/// Where a path leads, with its links followed, and the folder for the draft. What it leads to need not be there.
fn place_of(path: &Path) -> io::Result<(Place, PathBuf)> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&target) {
            Ok(to) => target = folder_of(&target).join(to),
            Err(_) if target.file_name().is_none() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
            }
            Err(_) => {
                let folder = folder_of(&target).to_owned();
                return Ok((Place::File(target), folder));
            }
        }
    }
    Err(link_loop())
}

fn link_loop() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "its symbolic links lead in a circle")
}

/// Whether a path names what this process has open, as `/dev/stdout` does: a rename there would not reach it.
fn is_an_open_file(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if path.starts_with("/proc") || path.starts_with("/dev/fd") {
            return true;
        }
        match fs::read_link(&path) {
            Ok(to) => path = folder_of(&path).join(to),
            Err(_) => return false,
        }
    }
    false
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::symlink, thread};

    use rustix::fs::{FileType, Mode as NodeMode, mknodat};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_stays_until_all_of_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let mut draft = Draft::at(&path, Mode::Default).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        write(&path, b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755, "the mode is kept");
        assert_eq!(names(folder.path()), ["a.toml"]);
        write_private(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn drafts_of_one_place_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut drafts: Vec<Draft> = (0..2).map(|_| Draft::at(&path, Mode::Default).unwrap()).collect();
        drafts[0].write_all(&[b'x'; 1 << 20]).unwrap();
        drafts[1].write_all(b"short").unwrap();
        for draft in drafts {
            draft.put().unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"short");
        let mut late = Draft::at(&path, Mode::Default).unwrap();
        late.write_all(b"late").unwrap();
        assert_eq!(late.put_new().unwrap(), PutNew::Taken);
        assert_eq!(fs::read(&path).unwrap(), b"short");
        let mut first = Draft::at(&folder.path().join("b"), Mode::Private).unwrap();
        first.write_all(b"first").unwrap();
        assert_eq!(first.put_new().unwrap(), PutNew::Written);
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/file"), "before").unwrap();
        symlink("sub/file", at("link")).unwrap();
        symlink("sub/new", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        write(&at("link"), b"after").unwrap();
        write(&at("dangling"), b"new").unwrap();
        assert_eq!(fs::read_to_string(at("sub/file")).unwrap(), "after");
        assert_eq!(fs::read_to_string(at("sub/new")).unwrap(), "new");
        assert!(at("link").is_symlink() && at("dangling").is_symlink());
        let error = write(&at("round"), b"x").unwrap_err().to_string();
        assert!(error.ends_with("its symbolic links lead in a circle"), "{error}");
    }

    #[test]
    fn what_is_no_file_is_written_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, NodeMode::RUSR | NodeMode::WUSR, 0).unwrap();
        let reader = thread::spawn({
            let fifo = fifo.clone();
            move || {
                let mut text = String::new();
                File::open(fifo).unwrap().read_to_string(&mut text).map(|_| text).unwrap()
            }
        });
        write(&fifo, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert_eq!(names(folder.path()), ["fifo"]);
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(write(Path::new("/dev/full"), b"x").is_err());
        assert!(Path::new("/dev/full").exists());
    }

    #[test]
    fn what_an_open_file_is_reached_by_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = File::create(&path).unwrap();
        log.write_all(b"one ").unwrap();
        let link = folder.path().join("stdout");
        symlink(format!("/proc/self/fd/{}", log.as_raw_fd()), &link).unwrap();
        write(&link, b"two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two");
    }

    #[test]
    fn a_place_that_is_none_is_found_out_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        for (path, why) in [
            (folder.path().to_owned(), "it is a folder"),
            (folder.path().join("socket"), "it is a socket"),
            (folder.path().join("none/a.toml"), "No such file or directory"),
            ("/".into(), "it names a folder"),
            (folder.path().join("none/"), "it names a folder"),
        ] {
            let error = Draft::at(&path, Mode::Default).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn where_files_must_have_names_drafts_are_named_apart_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let named = || {
            let name = name_in(folder.path(), &target).unwrap();
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&name).unwrap();
            assert!(is_draft(&name.file_name().unwrap().to_string_lossy()));
            Draft { file, path: target.clone(), place: Place::File(target.clone()), named: Some(name) }
        };
        let (mut one, other) = (named(), named());
        one.write_all(b"one").unwrap();
        one.put().unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        assert_eq!(other.put_new().unwrap(), PutNew::Taken);
        assert_eq!((names(folder.path()).len(), fs::read(&target).unwrap()), (1, b"one".to_vec()));
    }
}
