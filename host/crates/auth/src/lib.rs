//! What token chains allow on the mesh: proofs in, permissions out.
//!
//! Owns the mesh's profile of UCAN (which commands and policies mean what), realms and their pins, namespaces and who
//! owns them, permission tables, revocations and the replay set of invocations. Leaves to others how tokens are encoded
//! and signed (`macula-ucan`), how proofs travel (`macula-node`), and where a table is consulted (relay and runtime).
//!
//! How it works: a node presents chains of delegations. Each becomes a [`Grant`] once it holds: links, signatures, times,
//! profile, realm. An [`Authority`] compiles the grants of each member into an immutable [`Permissions`] table, and
//! another when a deadline passes, a proof is added or a revocation arrives. Nothing is looked up in tokens afterwards.
//!
//! Everything here is pure: the time comes in as unix seconds, keys are given for signing and never kept. Everything is
//! bounded; bounds are constants beside what they bound. Specified in `docs/protocol/ucan.md`.

mod audit;
mod authority;
mod clock;
mod grant;
mod invocations;
mod issue;
mod memo;
mod namespace;
mod owners;
mod permissions;
mod pins;
mod profile;
mod proofs;
mod records;
mod revocations;
mod scope;
mod slot;

pub use audit::{AuditEvent, AuditLimiter};
pub use authority::{Authority, AuthorityConfig, Change, Checked, MemberKey, ProofError, Refusal, Standing};
pub use clock::{AHEAD_PATIENCE, ClockBehind, ClockEvent, Moment, Reading, STEP_MAX, Timekeeper, check_clock};
pub use grant::{Grant, GrantError, Operations};
pub use invocations::{Expected, INVOCATION_LIFETIME_MAX, InvocationRefused, Invocations};
pub use issue::{IssueError, Issuing, issue};
pub use macula_ucan as ucan;
pub use namespace::{Namespace, NamespaceError};
pub use owners::{OwnClaimError, Owners, Ownership};
pub use permissions::Permissions;
pub use pins::{PinError, Pins};
pub use profile::{Binding, ProfileError, Terms};
pub use proofs::{chains_for, claims_in, proof_of};
pub use records::{ExpectedRecord, RECORD_LIFETIME_MAX, SignedRecord, Validity};
pub use revocations::{RevocationRefused, Revocations};
pub use scope::{NotGrantable, Scope};
pub use slot::{Slot, SlotError, may_speak_for};

#[cfg(test)]
mod testing;
