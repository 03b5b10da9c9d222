//! Which version of a plugin a host runs: deployment records, and what a host does about them.
//!
//! A [`Deployment`] says what a slot holds; it is signed, and each replaces the one before. A [`Follower`] is one host's
//! side of one slot: it takes records, decides what to fetch, start and put back, and what to remember over a restart. It
//! does none of that itself: whoever drives it carries out its [`Action`]s and tells it what came of them.
//!
//! A [`Package`] says, for good, which component a version of a name is; a [`Catalog`] is what a node knows of them.
//!
//! Pure: time comes in as unix milliseconds, nothing here waits, reads or writes. Specified in `docs/protocol/deployment.md`.

mod asks;
mod follower;
mod journal;
mod package;
mod record;
mod rollout;
mod trial;

pub use asks::Asks;
pub use follower::{Action, Config, Failure, Follower, Handover, Refused, Step};
pub use journal::{Accepted, Journal, VERSIONS_KEPT, Version};
pub use package::{Catalog, Package, PackageError, PackageId, PackageQuery, PackageRefused};
pub use record::{CANARY_PERCENT_MAX, Deployment, DeploymentError, Held, MANIFEST_BYTES_MAX, SEQ_AHEAD_MAX, SEQ_MAX};
pub use rollout::{Rollout, RolloutState};
pub use trial::{Counts, Trial, Verdict};
