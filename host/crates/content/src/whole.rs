//! Content that is named by SHA-256: nothing of it is verified before all of it is.
//!
//! So it is bounded: what cannot be verified by parts has to be received, and kept, on trust. Specified in
//! `docs/protocol/content.md`, “Names”.

use sha2::{Digest as _, Sha256};

/// Content named by SHA-256 is not larger.
pub const WHOLE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why bytes are not the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WholeError {
    /// More than [`WHOLE_BYTES_MAX`]; the piece was not taken.
    #[error("content named by SHA-256 is at most {WHOLE_BYTES_MAX} bytes")]
    TooLarge,
    /// All bytes together are something else.
    #[error("the content has another hash")]
    Corrupt,
}

/// Hashes content from its beginning to its end.
#[derive(Debug, Clone, Default)]
pub struct WholeHash {
    hasher: Sha256,
    size: u64,
}

impl WholeHash {
    /// Of no content so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`WholeError::TooLarge`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), WholeError> {
        let size = self.size + piece.len() as u64;
        if size > WHOLE_BYTES_MAX {
            return Err(WholeError::TooLarge);
        }
        self.hasher.update(piece);
        self.size = size;
        Ok(())
    }

    /// How many bytes it has been given.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of all.
    pub fn finish(self) -> [u8; 32] {
        self.hasher.finalize().into()
    }

    /// Whether all has the hash that it is named by.
    ///
    /// # Errors
    /// [`WholeError::Corrupt`].
    pub fn verify(self, digest: &[u8; 32]) -> Result<(), WholeError> {
        if self.finish() == *digest { Ok(()) } else { Err(WholeError::Corrupt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_the_whole_and_is_bounded() {
        let digest = <[u8; 32]>::from(Sha256::digest(b"hello"));
        let mut hash = WholeHash::new();
        hash.push(b"hel").unwrap();
        assert_eq!(hash.clone().verify(&digest), Err(WholeError::Corrupt));
        hash.push(b"lo").unwrap();
        assert_eq!(hash.clone().verify(&digest), Ok(()));
        hash.size = WHOLE_BYTES_MAX - 1;
        assert_eq!(hash.push(b"ab"), Err(WholeError::TooLarge));
        assert_eq!(hash.push(b"a"), Ok(()));
    }
}
