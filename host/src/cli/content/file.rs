//! Files that content comes from and goes to.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use macula_files::{Draft, Mode};
use macula_node::{
    ContentBytes, ContentSink, ContentSource,
    content::{Geometry, GroupSet, Node, OutboardBuilder, Parent},
    wire::{Fault, Mcid},
};

use crate::{
    failure::{Failure, Kind},
    output,
};

/// A file of which the id is known: others can fetch it from here.
pub(in crate::cli) struct Offered {
    file: File,
    size: u64,
    pub(in crate::cli) mcid: Mcid,
    parents: Vec<[u8; 64]>,
    has_changed: AtomicBool,
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
        Ok(Self { file, size: finished.size, mcid: finished.mcid(), parents, has_changed: AtomicBool::new(false) })
    }
}

impl Offered {
    /// Whether the file turned out to be another than when it was read: its id stands for something else.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed.load(Ordering::Relaxed)
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
        self.0.file.read_exact_at(&mut into[start..], range.start).inspect_err(|error| {
            // It is shorter by now.
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.0.has_changed.store(true, Ordering::Relaxed);
            }
        })
    }

    fn damaged(&mut self, _node: Node) {
        self.0.has_changed.store(true, Ordering::Relaxed);
    }
}

/// A file that nobody else sees, for what has to be there as a whole before it goes on.
pub(super) fn unnamed(home: &Path) -> Result<File, Failure> {
    // The home is on a disk, and the system's folder perhaps in memory; but a home need not take anything.
    tempfile::tempfile_in(home).or_else(|_| tempfile::tempfile()).map_err(|error| {
        let folder = std::env::temp_dir();
        let text = format!("cannot make a file in {}: {error}; TMPDIR names another folder for it", folder.display());
        Failure::failed(text)
    })
}

/// Content that is fetched: at its place when all of it is there.
pub(super) enum Target {
    /// What is at the place stays until then.
    File(Draft),
    /// Nobody is shown content that is not complete.
    Stdout(File),
}

impl Target {
    /// For a file, or standard output.
    pub(super) fn at(path: Option<&Path>, home: &Path) -> Result<Self, Failure> {
        Ok(match path {
            Some(path) => Self::File(Draft::at(path, Mode::Default).map_err(|error| {
                let failure = Failure::from(error);
                // Not found is what this command says of content.
                if failure.kind() == Kind::NotFound { Failure::failed(failure) } else { failure }
            })?),
            None => Self::Stdout(unnamed(home)?),
        })
    }

    /// What a fetch writes to.
    pub(super) fn sink(&self) -> io::Result<Sink> {
        let file = match self {
            Self::File(draft) => draft.file(),
            Self::Stdout(file) => file,
        };
        Sink::new(file)
    }

    /// Puts it at its place, or prints it.
    pub(super) fn deliver(self) -> Result<(), Failure> {
        match self {
            Self::File(draft) => Ok(draft.put()?),
            Self::Stdout(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                let mut out = io::stdout().lock();
                output::noted(io::copy(&mut file, &mut out).and_then(|_| out.flush()));
                Ok(())
            }
        }
    }
}

/// All bytes of a file, at most so many.
pub(super) fn whole(mut file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let size = file.seek(SeekFrom::End(0))?;
    if size > bytes_max {
        let text = format!("it has {size} bytes, and a component has at most {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file, as a fetch writes to it.
pub(super) struct Sink {
    file: File,
    size: u64,
}

impl Sink {
    pub(super) fn new(file: &File) -> io::Result<Self> {
        Ok(Self { file: file.try_clone()?, size: 0 })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all_at(bytes, offset).map_err(|error| fault(&error))
    }
}

fn fault(error: &io::Error) -> Fault {
    Fault::Unavailable(format!("cannot write: {error}"))
}

impl ContentSink for Sink {
    fn set_size(&mut self, size: u64) -> Result<(), Fault> {
        self.size = size;
        self.file.set_len(size).map_err(|error| fault(&error))
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
