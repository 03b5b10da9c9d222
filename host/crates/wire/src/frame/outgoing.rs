//! Bytes on their way into a stream: small pieces are copied together, large ones shared.

use bytes::{Bytes, BytesMut};

/// Below this, copying a piece is cheaper than handing it to the transport by itself.
const SHARE_BYTES_MIN: usize = 4096;

/// An ordered list of pieces to write.
#[derive(Debug, Default)]
pub struct Outgoing {
    shared: Vec<Bytes>,
    copied: BytesMut,
    bytes: usize,
}

impl Outgoing {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends by writing into the buffer that small pieces share.
    #[inline]
    pub fn put(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.copied.len();
        write(&mut self.copied);
        self.bytes += self.copied.len() - before;
    }

    /// Appends a piece that others hold too.
    #[inline]
    pub fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() < SHARE_BYTES_MIN {
            self.copied.extend_from_slice(&piece);
        } else {
            self.seal();
            self.shared.push(piece);
        }
    }

    /// Takes everything, in order.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.seal();
        self.bytes = 0;
        std::mem::take(&mut self.shared)
    }

    /// Takes everything into `into`, which keeps its allocation.
    pub fn take_into(&mut self, into: &mut Vec<Bytes>) {
        self.seal();
        self.bytes = 0;
        into.append(&mut self.shared);
    }

    fn seal(&mut self) {
        if !self.copied.is_empty() {
            self.shared.push(self.copied.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_shares_large_pieces() {
        let mut outgoing = Outgoing::default();
        let large = Bytes::from(vec![7; SHARE_BYTES_MIN]);
        outgoing.put(|out| out.extend_from_slice(b"head"));
        outgoing.push(large.clone());
        outgoing.push(Bytes::from_static(b"small"));
        outgoing.put(|out| out.extend_from_slice(b"tail"));
        assert_eq!(outgoing.len(), 4 + SHARE_BYTES_MIN + 9);
        let pieces = outgoing.take();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), large.as_ptr(), "not copied");
        assert_eq!(&pieces[2][..], b"smalltail");
        assert!(outgoing.is_empty());
    }
}
