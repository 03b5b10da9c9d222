//! Data frames: what flows on the unidirectional streams of a link, called lanes.
//!
//! Every frame begins with its length (u32, little endian, counting what follows it) and a kind. A kind that the reader
//! does not know is skipped, so later versions can add some. Messages and calls share a fixed header of 32 bytes that a
//! relay forwards by copying the frame and patching two fields:
//!
//! ```text
//!  0        4     5      6     7       8     9     10               16            24             32
//! ┌────────┬─────┬──────┬─────┬───────┬─────┬─────┬────────────────┬─────────────┬──────────────┬─────────┬─────────┐
//! │ length │kind │flags │auth │ cause │hops │  0  │ time (48 bits) │ seq/call id │ channel      │ extras? │ payload │
//! └────────┴─────┴──────┴─────┴───────┴─────┴─────┴────────────────┴─────────────┴──────────────┴─────────┴─────────┘
//! ```
//!
//! `time` is the publisher's clock in ms for a message and the milliseconds left for a call. Extras, present when
//! [`FLAG_EXTRAS`] is set, are a u16 length and a DAG-CBOR map ([`Extras`]).
//! The other kinds are drawn at their encoders. Specified in `docs/protocol/links.md`.

mod extras;
mod lane;
mod latest;
mod outgoing;
mod reassembly;

use bytes::{BufMut, BytesMut};

pub use extras::{Extras, ExtrasError};
pub use lane::Lane;
pub use latest::{LatestSlots, Pushed};
pub use outgoing::Outgoing;
pub use reassembly::{Piece, Reassembly};

use crate::{
    CallError,
    limits::{CAUSE_DEPTH_MAX, FRAME_BYTES_MAX},
};

/// Bytes of the header of messages and calls, with the length field.
pub const HEADER_BYTES: usize = 32;
/// Bytes in front of the frames of a batch, with the length field.
pub const BATCH_HEADER_BYTES: usize = 16;

/// Extras follow the header.
pub const FLAG_EXTRAS: u8 = 0x01;
/// Keep as the topic's last value.
pub const FLAG_RETAIN: u8 = 0x02;
/// A stored last value, not live.
pub const FLAG_RETAINED: u8 = 0x04;

/// The only value of the `auth` byte in this version: publisher and caller are attested by the relay.
pub const AUTH_ATTESTED: u8 = 0;

const KIND_MESSAGE: u8 = 1;
const KIND_CHANNEL: u8 = 2;
const KIND_FORGET: u8 = 3;
const KIND_BATCH: u8 = 4;
const KIND_CALL: u8 = 5;
const KIND_REPLY: u8 = 6;
const KIND_CANCEL: u8 = 7;
const KIND_SYNC: u8 = 8;
const KIND_RECEIPT: u8 = 9;
const KIND_CREDIT: u8 = 10;

/// The fixed part of a message or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// [`FLAG_EXTRAS`], [`FLAG_RETAIN`], [`FLAG_RETAINED`]; unknown bits are ignored.
    pub flags: u8,
    /// How publisher or caller are proved; [`AUTH_ATTESTED`], everything else is refused.
    pub auth: u8,
    /// Handlers that acted because of one another before this.
    pub cause_depth: u8,
    /// Relays passed.
    pub hops: u8,
    /// Publisher's clock in ms (message) or milliseconds left (call); 48 bits.
    pub time: u64,
    /// Sequence number (message) or the sender's number for the call.
    pub id: u64,
    /// Channel number.
    pub channel: u64,
}

/// What a receipt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Taken {
    /// All that was sent before.
    #[default]
    All = 0,
    /// All but what the sender has no right to.
    NotDenied = 1,
}

/// One frame, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// A message; extras are empty or DAG-CBOR.
    Message {
        /// The fixed part.
        header: Header,
        /// Undecoded [`Extras`].
        extras: &'a [u8],
        /// The payload.
        payload: &'a [u8],
    },
    /// Declares what a channel number stands for: [`crate::Channel`] as DAG-CBOR.
    Channel {
        /// The number.
        number: u64,
        /// Undecoded [`crate::Channel`].
        body: &'a [u8],
    },
    /// The number is free again.
    Forget {
        /// The number.
        number: u64,
    },
    /// Message frames for one subscription.
    Batch {
        /// The subscriber's number for the subscription.
        subscription: u32,
        /// How many frames.
        count: u32,
        /// The frames, each with its length.
        frames: &'a [u8],
    },
    /// A call.
    Call {
        /// The fixed part; `id` is the sender's number for the call.
        header: Header,
        /// Undecoded [`Extras`].
        extras: &'a [u8],
        /// The payload.
        payload: &'a [u8],
    },
    /// The answer to a call.
    Reply {
        /// The number under which the receiver of this frame knows the call.
        call: u64,
        /// The answer, or an undecoded [`CallError`].
        outcome: Outcome<'a>,
    },
    /// The caller does not want the answer any more.
    Cancel {
        /// The sender's number for the call.
        call: u64,
    },
    /// Asks to be told when everything before it on this lane has been taken.
    Sync {
        /// Comes back in the receipt.
        token: u64,
    },
    /// Everything before the sync with this token has been taken into memory.
    Receipt {
        /// The lane of the sync.
        lane: u8,
        /// Whether everything before was taken.
        taken: Taken,
        /// The sync's token.
        token: u64,
    },
    /// The subscriber takes messages up to this number, counted from the subscription's beginning on this link.
    Credit {
        /// The subscriber's number for the subscription.
        subscription: u32,
        /// Messages taken in all.
        total: u64,
    },
    /// Of a later version; to be ignored.
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

/// How a call ended, undecoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The handler's answer.
    Answer(&'a [u8]),
    /// A [`CallError`] as DAG-CBOR.
    Error(&'a [u8]),
}

impl Outcome<'_> {
    /// Decodes an error. A malformed one becomes [`CallError::MaybeRun`], because nothing is known.
    pub fn decode_error(bytes: &[u8]) -> CallError {
        serde_ipld_dagcbor::from_slice(bytes)
            .unwrap_or_else(|_| CallError::MaybeRun(crate::Fault::Other("the answer was unreadable".into())))
    }
}

/// Why bytes are no frame. The link they came on cannot be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length field names more than the lane may carry.
    #[error("a frame of {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// As announced.
        bytes: usize,
        /// The bound of this lane.
        max: usize,
    },
    /// The frame is shorter than its kind needs, or a length inside it points beyond its end.
    #[error("a frame of kind {kind} is truncated")]
    Truncated {
        /// The frame's kind; 0 when there was no room for one.
        kind: u8,
    },
    /// The `auth` byte asks for a proof that this version cannot check.
    #[error("auth {0} is not known here")]
    Auth(u8),
    /// Cause depth beyond its bound.
    #[error("cause depth {0} is above {CAUSE_DEPTH_MAX}")]
    CauseDepth(u8),
}

impl<'a> Frame<'a> {
    /// Reads one whole frame, `bytes` being exactly the frame with its length field.
    ///
    /// # Errors
    /// See [`FrameError`]; what arrived is consumed by nobody.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let kind = *bytes.get(4).ok_or(FrameError::Truncated { kind: 0 })?;
        let truncated = FrameError::Truncated { kind };
        match kind {
            KIND_MESSAGE | KIND_CALL => {
                let header = Header::parse(bytes).ok_or(truncated)?;
                if header.auth != AUTH_ATTESTED {
                    return Err(FrameError::Auth(header.auth));
                }
                if header.cause_depth > CAUSE_DEPTH_MAX {
                    return Err(FrameError::CauseDepth(header.cause_depth));
                }
                let (extras, payload) = split_extras(header.flags, &bytes[HEADER_BYTES..]).ok_or(truncated)?;
                Ok(if kind == KIND_MESSAGE {
                    Self::Message { header, extras, payload }
                } else {
                    Self::Call { header, extras, payload }
                })
            }
            KIND_BATCH => {
                let (head, frames) = bytes.split_at_checked(BATCH_HEADER_BYTES).ok_or(truncated)?;
                Ok(Self::Batch { subscription: u32_at(head, 8), count: u32_at(head, 12), frames })
            }
            KIND_CHANNEL | KIND_FORGET | KIND_REPLY | KIND_CANCEL | KIND_SYNC | KIND_RECEIPT | KIND_CREDIT => {
                let (head, body) = bytes.split_at_checked(16).ok_or(truncated)?;
                let value = u64_at(head, 8);
                match kind {
                    KIND_CHANNEL => Ok(Self::Channel { number: value, body }),
                    KIND_FORGET => Ok(Self::Forget { number: value }),
                    KIND_REPLY if head[5] == 0 => Ok(Self::Reply { call: value, outcome: Outcome::Answer(body) }),
                    KIND_REPLY => Ok(Self::Reply { call: value, outcome: Outcome::Error(body) }),
                    KIND_CANCEL => Ok(Self::Cancel { call: value }),
                    KIND_SYNC => Ok(Self::Sync { token: value }),
                    KIND_RECEIPT => {
                        let taken = if head[6] == 0 { Taken::All } else { Taken::NotDenied };
                        Ok(Self::Receipt { lane: head[5], taken, token: value })
                    }
                    _ if body.len() < 8 => Err(truncated),
                    _ => Ok(Self::Credit { subscription: value as u32, total: u64_at(body, 0) }),
                }
            }
            kind => Ok(Self::Unknown { kind }),
        }
    }
}

/// The frames of a batch, one after another: each with its bytes.
#[derive(Debug, Clone)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// Over the body of a [`Frame::Batch`].
    pub fn new(frames: &'a [u8]) -> Self {
        Self(frames)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let taken = frame_len(self.0).and_then(|len| self.0.split_at_checked(len));
        let Some((frame, rest)) = taken else {
            self.0 = &[];
            return Some(Err(FrameError::Truncated { kind: 0 }));
        };
        self.0 = rest;
        Some(Ok(frame))
    }
}

/// Bytes of the first frame in `bytes`, with its length field; `None` when even that is incomplete.
#[inline]
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize + 4)
}

impl Header {
    /// Reads the fixed part; `None` when `bytes` is shorter.
    #[inline]
    fn parse(bytes: &[u8]) -> Option<Self> {
        let b = bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            flags: b[5],
            auth: b[6],
            cause_depth: b[7],
            hops: b[8],
            time: u64_at(b, 8) >> 16,
            id: u64_at(b, 16),
            channel: u64_at(b, 24),
        })
    }

    #[inline]
    fn put(&self, kind: u8, body_bytes: usize, out: &mut BytesMut) {
        debug_assert!(body_bytes + HEADER_BYTES - 4 <= FRAME_BYTES_MAX);
        let mut b = [0; HEADER_BYTES];
        b[..4].copy_from_slice(&((HEADER_BYTES - 4 + body_bytes) as u32).to_le_bytes());
        b[8..16].copy_from_slice(&(self.time << 16).to_le_bytes());
        b[4] = kind;
        b[5] = self.flags;
        b[6] = self.auth;
        b[7] = self.cause_depth;
        b[8] = self.hops;
        b[16..24].copy_from_slice(&self.id.to_le_bytes());
        b[24..32].copy_from_slice(&self.channel.to_le_bytes());
        out.extend_from_slice(&b);
    }
}

/// Appends a message. `extras` is encoded [`Extras`] or empty; the header's extras flag is set to match.
#[inline]
pub fn put_message(header: Header, extras: &[u8], payload: &[u8], out: &mut BytesMut) {
    put_with_extras(KIND_MESSAGE, header, extras, payload, out);
}

/// Appends a call; as [`put_message`].
#[inline]
pub fn put_call(header: Header, extras: &[u8], payload: &[u8], out: &mut BytesMut) {
    put_with_extras(KIND_CALL, header, extras, payload, out);
}

#[inline]
fn put_with_extras(kind: u8, mut header: Header, extras: &[u8], payload: &[u8], out: &mut BytesMut) {
    if extras.is_empty() {
        header.flags &= !FLAG_EXTRAS;
        header.put(kind, payload.len(), out);
    } else {
        header.flags |= FLAG_EXTRAS;
        header.put(kind, 2 + extras.len() + payload.len(), out);
        out.put_u16_le(u16::try_from(extras.len()).expect("extras are bounded by 4 KiB of metadata and short texts"));
        out.extend_from_slice(extras);
    }
    out.extend_from_slice(payload);
}

/// Appends a copy of a message or call frame as it leaves a relay: one more hop, the relay's channel number, and `id`
/// for a call. It is live, whatever its sender says.
#[inline]
pub fn put_forwarded(frame: &[u8], channel: u64, call: Option<u64>, out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(frame);
    let copy = &mut out[start..];
    copy[5] &= !FLAG_RETAINED;
    copy[8] = copy[8].saturating_add(1);
    copy[24..32].copy_from_slice(&channel.to_le_bytes());
    if let Some(call) = call {
        copy[16..24].copy_from_slice(&call.to_le_bytes());
    }
}

/// Sets flags of a message or call frame in place.
pub fn set_flags(frame: &mut [u8], flags: u8) {
    frame[5] |= flags;
}

/// `length | 2 | 0 0 0 | number (8) | Channel as DAG-CBOR`
pub fn put_channel(number: u64, body: &[u8], out: &mut BytesMut) {
    put_short(KIND_CHANNEL, 0, number, body, out);
}

/// `length | 3 | 0 0 0 | number (8)`
pub fn put_forget(number: u64, out: &mut BytesMut) {
    put_short(KIND_FORGET, 0, number, &[], out);
}

/// `length | 4 | 0 0 0 | subscription (4) | count (4)`, to be followed by `frames_bytes` bytes of message frames.
#[inline]
pub fn put_batch_header(subscription: u32, count: u32, frames_bytes: usize, out: &mut BytesMut) {
    let mut b = [0; BATCH_HEADER_BYTES];
    b[..4].copy_from_slice(&((BATCH_HEADER_BYTES - 4 + frames_bytes) as u32).to_le_bytes());
    b[4] = KIND_BATCH;
    b[8..12].copy_from_slice(&subscription.to_le_bytes());
    b[12..16].copy_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&b);
}

/// `length | 6 | status | 0 0 | call (8) | answer, or CallError as DAG-CBOR`, status 0 for an answer.
#[inline]
pub fn put_reply(call: u64, outcome: Outcome<'_>, out: &mut BytesMut) {
    match outcome {
        Outcome::Answer(answer) => put_short(KIND_REPLY, 0, call, answer, out),
        Outcome::Error(error) => put_short(KIND_REPLY, 1, call, error, out),
    }
}

/// As [`put_reply`], encoding the error.
pub fn put_reply_error(call: u64, error: &CallError, out: &mut BytesMut) {
    let bytes = serde_ipld_dagcbor::to_vec(error).expect("an error always encodes");
    put_reply(call, Outcome::Error(&bytes), out);
}

/// `length | 7 | 0 0 0 | call (8)`
pub fn put_cancel(call: u64, out: &mut BytesMut) {
    put_short(KIND_CANCEL, 0, call, &[], out);
}

/// `length | 8 | 0 0 0 | token (8)`
pub fn put_sync(token: u64, out: &mut BytesMut) {
    put_short(KIND_SYNC, 0, token, &[], out);
}

/// `length | 9 | lane | taken | 0 | token (8)`
pub fn put_receipt(lane: Lane, taken: Taken, token: u64, out: &mut BytesMut) {
    const TAKEN_BYTE: usize = 6;
    let start = out.len();
    put_short(KIND_RECEIPT, lane as u8, token, &[], out);
    out[start + TAKEN_BYTE] = taken as u8;
}

/// `length | 10 | 0 0 0 | subscription (8) | total (8)`
pub fn put_credit(subscription: u32, total: u64, out: &mut BytesMut) {
    put_short(KIND_CREDIT, 0, u64::from(subscription), &total.to_le_bytes(), out);
}

#[inline]
fn put_short(kind: u8, detail: u8, value: u64, body: &[u8], out: &mut BytesMut) {
    let mut b = [0; 16];
    b[..4].copy_from_slice(&((12 + body.len()) as u32).to_le_bytes());
    b[4] = kind;
    b[5] = detail;
    b[8..16].copy_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&b);
    out.extend_from_slice(body);
}

#[inline]
fn split_extras(flags: u8, body: &[u8]) -> Option<(&[u8], &[u8])> {
    if flags & FLAG_EXTRAS == 0 {
        return Some((&[], body));
    }
    let (len, rest) = body.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
