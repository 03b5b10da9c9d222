//! UCAN 1.0: delegations, invocations, the chains they make, and containers to carry them.
//!
//! A [`Delegation`] says: *issuer* lets *audience* do *command* to *subject*, where *policy* holds, until *expires*.
//! Delegations make a [`Chain`] from the subject itself to whoever acts, and an [`Invocation`] asks for something by one.
//! A [`Revocation`] takes a delegation back.
//!
//! Owns the formats, their bounds, signatures, chain rules and policy evaluation. Leaves to others where tokens are kept,
//! what time it is, what is revoked, and what a command means.
//!
//! What holds: a value of these types has been verified (structure, canonical bytes, then the signature); a token has one
//! spelling, so its [`Cid`] names it; nothing is taken on trust from a header; everything is bounded by [`limits`]; the
//! clock comes in as an argument. Errors have the specification's names where it has any (`name()`).
//!
//! ```
//! use std::sync::Arc;
//! use ed25519_dalek::SigningKey;
//! use macula_ucan::{Chain, Clock, DelegationFields, Ipld, NodeId, Policy};
//!
//! let owner = SigningKey::from_bytes(&[1; 32]);
//! let friend = NodeId::from(SigningKey::from_bytes(&[2; 32]).verifying_key());
//! let fields = DelegationFields {
//!     audience: friend,
//!     subject: Some(owner.verifying_key().into()),
//!     command: "/garden/water".parse()?,
//!     policy: Policy::any(),
//!     expires: Some(2_000_000_000),
//!     not_before: None,
//!     nonce: vec![7; 12],
//!     meta: Default::default(),
//! };
//! let chain = Chain::new(vec![Arc::new(fields.sign(&owner)?)])?;
//! chain.check_time(&Clock { now: 1_900_000_000, skew: 0 })?;
//! chain.check(&"/garden/water/roses".parse()?, &Ipld::Map(Default::default()))?;
//! assert!(chain.check(&"/garden/waterfall".parse()?, &Ipld::Map(Default::default())).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod command;
pub mod container;
mod delegation;
mod envelope;
mod fields;
#[cfg(test)]
mod forged;
mod invocation;
pub mod limits;
mod policy;
mod revocation;
mod scan;
mod token;

pub use chain::{Chain, ChainError, Clock, assemble};
pub use cid::Cid;
pub use command::{Command, CommandError};
pub use delegation::{Delegation, DelegationFields};
pub use envelope::cid_of;
pub use invocation::{Invocation, InvocationFields};
pub use ipld_core::ipld::Ipld;
/// Who signs and who is granted something: the `did:key` of an Ed25519 key.
pub use macula_wire::NodeId;
pub use policy::{Glob, Policy, PolicyError, Selector, Statement};
pub use revocation::Revocation;
pub use token::{Token, TokenError};
