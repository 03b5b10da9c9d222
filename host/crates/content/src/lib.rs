//! Content by its hash: what proves bytes, how they are asked for, how all of them are fetched from many at once, and how
//! they are kept.
//!
//! Owns the tree over content and its outboard, the encoding of some groups of it, the heads of a request, the fetch, and the
//! [`store`], which reaches its files through a [`disk`]. Leaves to others how bytes travel, who may have them, and what time it is.
//!
//! What holds: a group that comes out of a [`Decoder`] belongs to the MCID, whoever sent it; a group that goes into an
//! encoding was verified first, so nobody passes on what his disk has spoiled; memory is bounded by the depth of the tree and
//! the pieces that were handed in, whatever size the other side claims. Specified in `docs/protocol/content.md`.
//!
//! ```
//! use macula_content::{Decoder, Encoder, Geometry, GroupSet, Item, Node, OutboardBuilder};
//!
//! let content = vec![7; 40_000];
//! let mut builder = OutboardBuilder::new();
//! builder.push(&content);
//! let finished = builder.finish();
//! let outboard: Vec<_> = finished.parents;
//!
//! // One encodes two of the three groups …
//! let (geometry, wanted) = (Geometry::of(finished.size), GroupSet::from(1..3));
//! let mut encoding = Vec::new();
//! let mut encoder = Encoder::new(finished.root, geometry, wanted.clone());
//! while let Some(node) = encoder.node() {
//!     match node {
//!         Node::Parent(index) => {
//!             let parent = outboard.iter().find(|parent| parent.index == index).unwrap();
//!             encoder.supply(&parent.pair, &mut encoding)?;
//!         }
//!         Node::Group(group) => {
//!             let range = geometry.bytes(group);
//!             encoder.supply(&content[range.start as usize..range.end as usize], &mut encoding)?;
//!         }
//!     }
//! }
//!
//! // … and the other believes none of it before it is verified.
//! let mut decoder = Decoder::new(finished.root, geometry, wanted);
//! decoder.push(encoding.into());
//! while let Some(item) = decoder.poll_item()? {
//!     if let Item::Group { group, bytes } = item {
//!         assert_eq!(bytes.len() as u64, geometry.group_bytes(group));
//!     }
//! }
//! decoder.finish()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
pub mod disk;
mod encode;
pub mod fetch;
mod groups;
pub mod head;
mod outboard;
pub mod store;
mod tree;
mod walk;
mod whole;

pub use decode::{DecodeError, Decoder, Item};
pub use encode::Encoder;
pub use fetch::{Failure, Fetch, FetchConfig, FetchEvent, Progress, Request, RequestId, Verdict};
pub use groups::{GroupSet, GroupSetError, PAIRS_MAX};
pub use head::{Answer, Ask, HeadError, Sending};
pub use outboard::{Finished, OutboardBuilder, Parent};
pub use store::{Blob, Owner, Partial, Store, StoreConfig, StoreError, StoreEvent, Writer};
pub use tree::{GROUP_BYTES, Geometry, PARENT_BYTES};
pub use walk::{Node, Walk, WalkError};
pub use whole::{WHOLE_BYTES_MAX, WholeError, WholeHash};

#[cfg(test)]
mod tests;
