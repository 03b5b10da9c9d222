//! What crosses the mesh: identifiers, envelopes, frames and control messages, with the limits on all of them.
//!
//! Owns the byte formats and the rules for a well-formed name; leaves to others who may send what (permissions), where
//! it goes (relay) and how bytes travel (transport). Everything here is pure: no IO, no clock, no randomness.
//!
//! Text is parsed once, at the edge, into [`Topic`], [`Pattern`], [`NodeId`], [`RealmName`], and valid ever after.
//! Data frames have a fixed binary header ([`frame`]), everything else is DAG-CBOR ([`control`]).
//! Specified in `docs/protocol/links.md`, `pubsub.md` and `rpc.md`.

mod call;
mod channel;
pub mod control;
pub mod frame;
pub mod hello;
pub mod limits;
mod mcid;
mod message;
mod metadata;
mod node_id;
mod operation;
mod readable;
mod realm;
mod topic;
mod traceparent;
mod tracestate;

pub use call::{CallError, Fault, HandlerError, HandlerErrorInvalid, Request};
pub use channel::{Channel, ChannelError, ChannelKind};
pub use mcid::{Digest, Mcid, McidError, binary as binary_mcid};
pub use message::{
    ContentType, ContentTypeError, Delivery, Message, PluginName, PluginNameError, Priority, Receipt, ReceiptLevel,
    WhenFull,
};
pub use metadata::{Metadata, MetadataError};
pub use node_id::{NodeId, NodeIdError};
pub use operation::Operation;
pub use readable::{readable, readable_with};
pub use realm::{RealmId, RealmName, RealmNameError};
pub use topic::{Pattern, SEGMENT_BYTES_MAX, SEGMENTS_MAX, Topic, TopicError};
pub use traceparent::{Traceparent, TraceparentError};
pub use tracestate::{Tracestate, TracestateError};
