//! A lane's bytes: the frames found do not depend on how the stream was cut, and parsing them never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use macula_wire::frame::{Frame, FrameError, Frames, Piece, Reassembly};

/// Small, so that the fuzzer finds the border.
const FRAME_BYTES_MAX: usize = 512;

/// All frames of a stream that comes in pieces of these sizes, in turn.
fn read(stream: &[u8], sizes: &[usize]) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut reassembly = Reassembly::default();
    let mut frames = Vec::new();
    let (mut rest, mut turn) = (stream, 0);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(sizes[turn % sizes.len()].clamp(1, rest.len()));
        (rest, turn) = (behind, turn + 1);
        let mut at = 0;
        while let Some(found) = reassembly.next(piece, &mut at, FRAME_BYTES_MAX)? {
            frames.push(match found {
                Piece::InPlace(range) => piece[range].to_vec(),
                Piece::Assembled(buffer) => buffer,
            });
        }
        assert!(reassembly.pending_bytes() <= FRAME_BYTES_MAX + 4);
    }
    Ok(frames)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else { return };
    let sizes = [usize::from(cut % 7) + 1, usize::from(cut / 7) + 1];
    let whole = read(stream, &[stream.len().max(1)]);
    assert_eq!(whole, read(stream, &sizes));
    for bytes in whole.into_iter().flatten() {
        if let Ok(Frame::Batch { frames, .. }) = Frame::parse(&bytes) {
            for frame in Frames::new(frames).flatten() {
                let _ = Frame::parse(frame);
            }
        }
    }
});
