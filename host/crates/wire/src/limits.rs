//! Every bound that both ends of a link must agree on, in one place.
//!
//! A bound that only one side needs (how many links a relay takes, how long a queue is) belongs to that side's
//! configuration. `docs/protocol/links.md` repeats these numbers for implementers.

use std::time::Duration;

/// Payload of one message, call or answer. Larger data is content and travels by its id.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Metadata of one message or call, encoded: 16 pairs of short text with room for trace context.
pub const METADATA_BYTES_MAX: usize = 4096;

/// Pairs of metadata in one message or call.
pub const METADATA_PAIRS_MAX: usize = 16;

/// One frame, without its length field: the largest payload, the largest metadata, and headers.
pub const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + METADATA_BYTES_MAX + 1024;

/// A batch of frames is closed when it has reached this many bytes; the frame that reaches it still fits.
pub const BATCH_BYTES_GOAL: usize = 64 << 10;

/// One batch frame, without its length field.
pub const BATCH_BYTES_MAX: usize = BATCH_BYTES_GOAL + FRAME_BYTES_MAX + 64;

/// One control message after the Hello exchange.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;

/// A Hello: small, because it is read before anything about the peer is known.
pub const HELLO_BYTES_MAX: usize = 4096;

/// How long a peer may take from the first byte of the session to a verified Hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Media types: 127 bytes, as in RFC 6838 section 4.2.
pub const CONTENT_TYPE_BYTES_MAX: usize = 127;

/// Name of a plugin in an envelope.
pub const PLUGIN_NAME_BYTES_MAX: usize = 64;

/// Relays that one message may pass; a longer path is a loop or a misconfigured mesh.
pub const HOPS_MAX: u8 = 16;

/// How long a chain of “a handler published because of a message” may get before it counts as feedback.
pub const CAUSE_DEPTH_MAX: u8 = 16;

/// Channels a sender may have declared on one link at a time. A sender that needs more forgets old ones first.
pub const CHANNELS_PER_LINK_MAX: usize = 16_384;

/// Largest queue that a subscription may ask for, in messages.
pub const QUEUE_MESSAGES_MAX: u32 = 65_536;

/// A caller's own key for “what I mean to happen once”.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

/// A handler's error: code, sentence, details.
pub const ERROR_CODE_BYTES_MAX: usize = 64;
/// See [`ERROR_CODE_BYTES_MAX`].
pub const ERROR_MESSAGE_BYTES_MAX: usize = 1024;
/// See [`ERROR_CODE_BYTES_MAX`].
pub const ERROR_DATA_BYTES_MAX: usize = 64 << 10;

/// Longest that a caller may wait for an answer.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// A peer that has not answered a ping for this long is gone, whatever its transport says.
pub const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Pings are sent after this long without traffic from the peer.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Within this time after a relay is there again, whoever had a link to it and is alive has noticed, by the answer to its next ping at
/// the latest, and is back.
pub const LINK_NOTICE_MAX: Duration = PING_INTERVAL.saturating_add(Duration::from_secs(2));

/// Longest pause between two tries to open a link.
pub const LINK_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Within this time after a relay is there again, whoever had a link to it has tried to open a new one: who got no word of
/// the end has noticed the silence at the second look after [`PING_TIMEOUT`], and who knew has waited out its pause.
pub const LINK_RETURN_MAX: Duration = PING_TIMEOUT.saturating_add(PING_INTERVAL).saturating_add(LINK_PAUSE_MAX);
