//! What kind of thing a path names.

use std::{
    fmt,
    fs::{FileType, Metadata},
    os::unix::fs::FileTypeExt,
};

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Folder,
    /// A FIFO, which is also what a shell makes of `<(command)`.
    Fifo,
    /// A character or block device.
    Device,
    /// A Unix domain socket.
    Socket,
}

impl FileKind {
    /// The kind of an opened file, or of what a path leads to.
    pub fn of(metadata: &Metadata) -> Self {
        Self::of_type(metadata.file_type())
    }

    fn of_type(kind: FileType) -> Self {
        if kind.is_dir() {
            Self::Folder
        } else if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_char_device() || kind.is_block_device() {
            Self::Device
        } else if kind.is_socket() {
            Self::Socket
        } else {
            Self::Regular
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "a regular file",
            Self::Folder => "a folder",
            Self::Fifo => "a FIFO (named pipe)",
            Self::Device => "a device",
            Self::Socket => "a socket",
        })
    }
}
