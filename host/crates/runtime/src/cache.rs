//! Native code on disk, so that a component is compiled once for each engine.
//!
//! One file a component and engine, `<mcid>-<engine>.native`: wasmtime's own format followed by 32 bytes of keyed BLAKE3
//! over both names and the code. Loading native code is running it, so a file is used only if that seal is right; the
//! key is 32 random bytes in the same directory. Directory 0700, files 0600: who can write here can also read the key, so
//! the seal finds damage, files put here by mistake and code of another host's, not an intruder with this user's rights.
//! Files are written beside, synced, and renamed: there are no half ones. Above [`BYTES_MAX`] the least recently made go.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use macula_files::{Draft, Mode, NotRead, ReadError};
use macula_wire::Mcid;
use wasmtime::{Engine, component::Component};

use crate::program::{ProgramError, compile};

const KEY_FILE: &str = "seal.key";
const EXTENSION: &str = "native";
const SEAL_BYTES: usize = 32;

/// All native code together. A component takes two to four times its size.
const BYTES_MAX: u64 = 1 << 30;

/// A directory of native code.
#[derive(Debug)]
pub(crate) struct CodeCache {
    directory: PathBuf,
    key: [u8; 32],
}

/// What became of a look-up.
enum Lookup {
    Found(Box<Component>),
    Missing,
    /// There is a file, but it must not be used.
    Unusable(&'static str),
}

impl CodeCache {
    /// Opens the cache in `directory`, which is made if need be.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        private::create_directory(directory)?;
        let key = read_or_make_key(directory)?;
        remove_drafts(directory);
        Ok(Self { directory: directory.to_owned(), key })
    }

    /// The native code of `bytes`: from disk, or compiled and stored there. Blocks, for seconds with a large component.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        compatibility: &str,
        mcid: &Mcid,
        bytes: &[u8],
    ) -> Result<Component, ProgramError> {
        let path = self.path(mcid, compatibility);
        match self.lookup(engine, &path, &self.seal_context(mcid, compatibility)) {
            Lookup::Found(component) => return Ok(*component),
            Lookup::Missing => {}
            Lookup::Unusable(reason) => {
                tracing::warn!(path = %path.display(), reason, "native code in the cache is not used; compiling again");
            }
        }
        let component = compile(engine, bytes)?;
        if let Err(error) = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| self.store(&path, &self.seal_context(mcid, compatibility), code))
        {
            tracing::warn!(path = %path.display(), %error, "cannot store native code; the next start compiles again");
        }
        Ok(component)
    }

    fn path(&self, mcid: &Mcid, compatibility: &str) -> PathBuf {
        self.directory.join(format!("{mcid}-{compatibility}.{EXTENSION}"))
    }

    /// Both names: sealed code cannot pass as that of another component or engine.
    fn seal_context(&self, mcid: &Mcid, compatibility: &str) -> String {
        format!("{mcid}-{compatibility}")
    }

    fn seal(&self, context: &str, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(context.len() as u64).to_le_bytes());
        hasher.update(context.as_bytes());
        hasher.update(code);
        hasher.finalize()
    }

    fn lookup(&self, engine: &Engine, path: &Path, context: &str) -> Lookup {
        let bytes = match macula_files::read(path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(ReadError { why: NotRead::NotFound, .. }) => return Lookup::Missing,
            Err(_) => return Lookup::Unusable("it cannot be read"),
        };
        let Some((code, seal)) = bytes.split_last_chunk::<SEAL_BYTES>() else {
            return Lookup::Unusable("it is too short");
        };
        // Comparing hashes takes the same time wherever they differ.
        if self.seal(context, code) != blake3::Hash::from_bytes(*seal) {
            return Lookup::Unusable("its seal is not this host's, or it was altered");
        }
        // Mapped rather than copied: pages of code that no handler needs are then never in memory.
        //
        // SAFETY: these bytes were made by `Component::serialize` of this engine's kind, as the seal has just proved; the
        // directory is this user's alone, and files in it are replaced by renaming, never written to.
        match unsafe { Component::deserialize_file(engine, path) } {
            Ok(component) => Lookup::Found(Box::new(component)),
            Err(_) => Lookup::Unusable("it is code for another engine"),
        }
    }

    fn store(&self, path: &Path, context: &str, mut code: Vec<u8>) -> io::Result<()> {
        let seal = self.seal(context, &code);
        code.extend_from_slice(seal.as_bytes());
        self.make_room(code.len() as u64)?;
        macula_files::write_private(path, &code).map_err(|error| error.error)
    }

    fn make_room(&self, needed: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                let metadata = entry.metadata()?;
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total + needed <= BYTES_MAX {
                break;
            }
            // A component that is loaded keeps its mapping; only the name goes.
            fs::remove_file(path)?;
            total -= len;
        }
        Ok(())
    }
}

fn read_or_make_key(directory: &Path) -> io::Result<[u8; 32]> {
    let path = directory.join(KEY_FILE);
    if !path.exists() {
        let mut key = [0; 32];
        private::random(&mut key)?;
        // When two processes start at once, the first one's key stays.
        let draft = Draft::at(&path, Mode::Private).map_err(|error| error.error)?;
        draft.file().write_all(&key)?;
        draft.put_new().map_err(|error| error.error)?;
    }
    let mut key = [0; 32];
    File::open(&path)?.read_exact(&mut key)?;
    Ok(key)
}

/// Files that only their owner can read.
pub(crate) mod private {
    use std::{fs, io, path::Path};

    /// Fills `bytes` from the operating system's generator.
    pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
    }

    #[cfg(unix)]
    pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mut permissions = fs::metadata(path)?.permissions();
        if permissions.mode() & 0o077 != 0 {
            permissions.set_mode(0o700);
            fs::set_permissions(path, permissions)?;
        }
        Ok(())
    }

    #[cfg(not(unix))]
    pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }
}

/// Removes what writes that were cut short left behind: the directory belongs to one host at a time.
fn remove_drafts(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if macula_files::is_draft(&entry.file_name().to_string_lossy()) {
            // Tried again at the next start.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::host_engine;

    fn compile(cache: &CodeCache, bytes: &[u8]) -> Component {
        let host = host_engine().unwrap();
        cache.component(&host.engine, &host.compatibility, &Mcid::of(bytes), bytes).unwrap()
    }

    fn found(cache: &CodeCache, bytes: &[u8]) -> bool {
        let host = host_engine().unwrap();
        let mcid = Mcid::of(bytes);
        let path = cache.path(&mcid, &host.compatibility);
        let context = cache.seal_context(&mcid, &host.compatibility);
        matches!(cache.lookup(&host.engine, &path, &context), Lookup::Found(_))
    }

    fn only_file(directory: &Path) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    #[test]
    fn stores_finds_and_distrusts() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("native");
        let cache = CodeCache::open(&directory).unwrap();
        let bytes = wat::parse_str("(component (core module (func (export \"x\"))))").unwrap();
        assert!(!found(&cache, &bytes));
        compile(&cache, &bytes);
        assert!(found(&cache, &bytes));
        assert!(found(&CodeCache::open(&directory).unwrap(), &bytes), "the key is kept");

        let path = only_file(&directory);
        let whole = fs::read(&path).unwrap();
        for altered in [0, whole.len() / 2, whole.len() - 1] {
            let mut bytes_on_disk = whole.clone();
            bytes_on_disk[altered] ^= 1;
            fs::write(&path, &bytes_on_disk).unwrap();
            assert!(!found(&cache, &bytes), "byte {altered}");
        }
        fs::write(&path, &whole[..20]).unwrap();
        assert!(!found(&cache, &bytes), "cut short");
        compile(&cache, &bytes);
        assert!(found(&cache, &bytes), "compiled again and put back");
    }

    #[test]
    fn sealed_code_cannot_pass_as_anothers() {
        let home = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(home.path()).unwrap();
        let one = wat::parse_str("(component)").unwrap();
        let other = wat::parse_str("(component (core module))").unwrap();
        compile(&cache, &one);
        let host = host_engine().unwrap();
        fs::rename(only_file(home.path()), cache.path(&Mcid::of(&other), &host.compatibility)).unwrap();
        assert!(!found(&cache, &other));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_look() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("native");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let cache = CodeCache::open(&directory).unwrap();
        compile(&cache, &wat::parse_str("(component)").unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&only_file(&directory)), 0o600);
        assert_eq!(mode(&directory.join(KEY_FILE)), 0o600);
    }
}
