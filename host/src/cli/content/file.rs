//! Files that content comes from and goes to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use macula_node::{
    ContentBytes, ContentSink, ContentSource,
    content::{Geometry, GroupSet, Node, OutboardBuilder, Parent},
    wire::{Fault, Mcid},
};

/// A file of which the id is known: others can fetch it from here.
pub(super) struct Offered {
    file: File,
    size: u64,
    pub(super) mcid: Mcid,
    parents: Vec<[u8; 64]>,
}

impl Offered {
    /// Reads all of a file once.
    pub(super) fn new(mut file: File) -> io::Result<Self> {
        let mut builder = OutboardBuilder::new();
        let mut parents: Vec<[u8; 64]> = Vec::new();
        let mut keep = |new: Vec<Parent>| {
            for parent in new {
                let index = parent.index as usize;
                if parents.len() <= index {
                    parents.resize(index + 1, [0; 64]);
                }
                parents[index] = parent.pair;
            }
        };
        let mut piece = vec![0; 1 << 20];
        file.seek(SeekFrom::Start(0))?;
        loop {
            match file.read(&mut piece)? {
                0 => break,
                read => builder.push(&piece[..read]),
            }
            keep(builder.take_parents());
        }
        let mut finished = builder.finish();
        keep(std::mem::take(&mut finished.parents));
        Ok(Self { file, size: finished.size, mcid: finished.mcid(), parents })
    }
}

/// Gives it to those who ask.
pub(super) struct Source(pub(super) Arc<Offered>);

impl ContentSource for Source {
    fn open(&self, content: &Mcid) -> Option<Box<dyn ContentBytes>> {
        (*content == self.0.mcid).then(|| Box::new(Self(Arc::clone(&self.0))) as Box<dyn ContentBytes>)
    }
}

impl ContentBytes for Source {
    fn size(&self) -> u64 {
        self.0.size
    }

    fn groups(&self) -> Option<GroupSet> {
        None
    }

    fn parent(&mut self, index: u64) -> io::Result<[u8; 64]> {
        self.0.parents.get(index as usize).copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn group(&mut self, group: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let range = Geometry::of(self.0.size).bytes(group);
        let start = into.len();
        into.resize(start + (range.end - range.start) as usize, 0);
        self.0.file.read_exact_at(&mut into[start..], range.start)
    }

    fn damaged(&mut self, _node: Node) {
        tracing::warn!("the file has changed since it was read; its content is another now");
    }
}

/// Where standard input goes, whose end is not known: a file that nobody else sees.
pub(super) fn unnamed(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("draft-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Content that is fetched: beside its place until all of it is there.
pub(super) struct Target {
    file: File,
    /// The draft, and its place; nothing for what goes to standard output.
    names: Option<(PathBuf, PathBuf)>,
}

impl Target {
    /// For a file. What is at its place stays until the content is complete.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".part");
        let draft = PathBuf::from(draft);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&draft)?;
        Ok(Self { file, names: Some((draft, path.to_owned())) })
    }

    /// For standard output.
    pub(super) fn unnamed(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: unnamed(folder)?, names: None })
    }

    pub(super) fn copy(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, names: self.names.clone() })
    }

    /// Prints it, or puts it in its place.
    pub(super) fn deliver(mut self) -> io::Result<()> {
        match &self.names {
            Some((draft, path)) => {
                self.file.sync_all()?;
                fs::rename(draft, path)
            }
            None => {
                self.file.seek(SeekFrom::Start(0))?;
                let mut out = io::stdout().lock();
                io::copy(&mut self.file, &mut out)?;
                out.flush()
            }
        }
    }

    /// All bytes of it, at most so many.
    pub(super) fn read(mut self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let size = self.file.seek(SeekFrom::End(0))?;
        if size > bytes_max {
            let text = format!("it has {size} bytes, and a component has at most {bytes_max}");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Nothing comes of it.
    pub(super) fn discard(self) {
        if let Some((draft, _)) = &self.names {
            let _ = fs::remove_file(draft);
        }
    }
}

/// The same, as a fetch writes to it.
pub(super) struct Sink {
    target: Target,
    size: u64,
}

impl Sink {
    pub(super) fn new(target: Target) -> Self {
        Self { target, size: 0 }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.target.file.write_all_at(bytes, offset).map_err(|error| fault(&error))
    }
}

fn fault(error: &io::Error) -> Fault {
    Fault::Unavailable(format!("cannot write: {error}"))
}

impl ContentSink for Sink {
    fn set_size(&mut self, size: u64) -> Result<(), Fault> {
        self.size = size;
        self.target.file.set_len(size).map_err(|error| fault(&error))
    }

    fn write_parent(&mut self, _parent: &Parent) -> Result<(), Fault> {
        Ok(())
    }

    fn write_group(&mut self, group: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.write(Geometry::of(self.size).bytes(group).start, bytes)
    }

    fn write_whole(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.write(offset, bytes)
    }

    fn checkpoint(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
