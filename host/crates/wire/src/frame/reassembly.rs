//! Finds the frames in the pieces that a stream hands out.

use std::ops::Range;

use super::{FrameError, frame_len};

/// Frames that cross a piece's border are put together here; all others are used where they lie.
#[derive(Debug, Default)]
pub struct Reassembly {
    partial: Vec<u8>,
}

/// A whole frame, with its length field.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Lies in the input, at this range.
    InPlace(Range<usize>),
    /// Was put together from several inputs.
    Assembled(Vec<u8>),
}

impl Reassembly {
    /// The next whole frame of `input[*at..]`; advances `at` past what it used. `None` when the input is used up.
    ///
    /// `frame_bytes_max` bounds a frame without its length field, and so the memory held between two calls. No frame
    /// is assembled before its bytes have arrived: a peer that announces a large frame and sends nothing costs nothing.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; the stream cannot be read any further.
    #[inline]
    pub fn next(&mut self, input: &[u8], at: &mut usize, frame_bytes_max: usize) -> Result<Option<Piece>, FrameError> {
        if !self.partial.is_empty() {
            return self.assemble(input, at, frame_bytes_max);
        }
        let rest = &input[*at..];
        match frame_len(rest) {
            Some(len) if len - 4 > frame_bytes_max => Err(FrameError::TooLong { bytes: len - 4, max: frame_bytes_max }),
            Some(len) if len <= rest.len() => {
                let start = *at;
                *at += len;
                Ok(Some(Piece::InPlace(start..*at)))
            }
            _ => {
                self.partial.extend_from_slice(rest);
                *at = input.len();
                Ok(None)
            }
        }
    }

    /// Gives back the buffer of an assembled piece, to be used again when it is small.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 4096 && self.partial.capacity() == 0 {
            buffer.clear();
            self.partial = buffer;
        }
    }

    /// Bytes of an unfinished frame.
    pub fn pending_bytes(&self) -> usize {
        self.partial.len()
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when it ended within a frame.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.partial.is_empty() { Ok(()) } else { Err(FrameError::Truncated { kind: 0 }) }
    }

    fn assemble(&mut self, input: &[u8], at: &mut usize, frame_bytes_max: usize) -> Result<Option<Piece>, FrameError> {
        if !self.take_until(4, input, at) {
            return Ok(None);
        }
        let len = frame_len(&self.partial).expect("four bytes are here");
        if len - 4 > frame_bytes_max {
            return Err(FrameError::TooLong { bytes: len - 4, max: frame_bytes_max });
        }
        Ok(self.take_until(len, input, at).then(|| Piece::Assembled(std::mem::take(&mut self.partial))))
    }

    /// Moves bytes over until the partial frame has `len`; false when the input does not suffice.
    fn take_until(&mut self, len: usize, input: &[u8], at: &mut usize) -> bool {
        let missing = len.saturating_sub(self.partial.len());
        let taken = missing.min(input.len() - *at);
        // Growing by what has arrived, but in one step when half is here: large batches are copied once.
        if self.partial.len() * 2 >= len && self.partial.capacity() < len {
            self.partial.reserve_exact(missing);
        }
        self.partial.extend_from_slice(&input[*at..*at + taken]);
        *at += taken;
        taken == missing
    }
}
