//! Why the store did not do something.

use std::io;

use macula_wire::Fault;

use crate::disk::FolderError;

/// Why the store did not do something. Unless a variant says otherwise, what is stored is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such content, or not for this owner.
    #[error("the content is not here")]
    NotFound,
    /// Not all of it is here, and nothing else would do.
    #[error("the content is not complete here")]
    Incomplete,
    /// Not here: fetch this group, then read again.
    #[error("group {group} of the content is not here")]
    Missing {
        /// The first group that is missing.
        group: u64,
    },
    /// A disk has spoiled it: the group is no longer listed as here. Fetch it, then read again.
    #[error("group {group} of the content was corrupt on the disk")]
    Corrupt {
        /// The group that could not be verified.
        group: u64,
    },
    /// The whole that was received for a SHA-256 name has another hash; it was dropped.
    #[error("what was received is not the content")]
    CorruptWhole,
    /// No room, and nothing that may go.
    #[error("no room left: {whose}")]
    QuotaExceeded {
        /// What is full.
        whose: Quota,
    },
    /// The disk is full, whatever the quotas say.
    #[error("the disk is full: {} MiB of it are kept free for what else has to be written", super::FREE_BYTES_MIN >> 20)]
    DiskFull,
    /// The disk failed; what was to be written may be there after the next start, whole.
    #[error("the disk failed: {0}")]
    Io(#[source] io::Error),
    /// Larger than can be.
    #[error("{bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// How many.
        bytes: u64,
        /// How many it may be.
        bytes_max: u64,
    },
    /// Somebody is fetching this content: one at a time.
    #[error("the content is being fetched")]
    Busy,
    /// The caller is wrong.
    #[error("{0}")]
    Misuse(#[from] Misuse),
    /// Another process has the store open. Nothing was touched.
    #[error("another process has it open")]
    InUse,
    /// The index is of a later version of the store. Nothing was touched.
    #[error("the index has version {version}, {known} is the latest known here")]
    Version {
        /// What it says.
        version: u64,
        /// What is known.
        known: u64,
    },
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Quota {
    /// [`bytes_max`](super::StoreConfig::bytes_max) of the node, or the number of its contents.
    #[error("the node's quota")]
    Node,
    /// [`plugin_bytes_max`](super::StoreConfig::plugin_bytes_max).
    #[error("the owner's quota")]
    Owner,
    /// [`OWNERS_MAX`](super::OWNERS_MAX).
    #[error("the owners of one content")]
    Owners,
}

/// What a caller did that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The tree has no such group or parent, or it has another length.
    #[error("the content has no such group or parent")]
    NoSuchNode,
    /// The size has to be set first.
    #[error("the size of the content is not known yet")]
    SizeUnknown,
    /// It was set to something else before, and was proved then.
    #[error("the content has another size")]
    OtherSize,
    /// Groups are for BLAKE3, wholes for SHA-256.
    #[error("content of this hash is not received like that")]
    OtherHash,
    /// A writer that failed before.
    #[error("the writer has failed before")]
    Failed,
}

impl StoreError {
    /// What whoever asked for it is told.
    pub fn fault(&self) -> Fault {
        let text = self.to_string();
        match self {
            Self::NotFound | Self::Incomplete | Self::Missing { .. } | Self::Corrupt { .. } | Self::CorruptWhole => {
                Fault::NotFound(text)
            }
            Self::QuotaExceeded { .. } | Self::TooLarge { .. } => Fault::QuotaExceeded(text),
            Self::Busy => Fault::Conflict(text),
            Self::DiskFull | Self::Io(_) | Self::InUse | Self::Version { .. } => Fault::Unavailable(text),
            Self::Misuse(_) => Fault::Invalid(text),
        }
    }
}

impl From<FolderError> for StoreError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Io(error) => error.into(),
            FolderError::InUse => Self::InUse,
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}
