//! Texts that this program carries: the contract, the SDKs, the templates of new projects.

/// Paths below a folder, with `/`, and what is in them.
pub(crate) type Files = &'static [(&'static str, &'static str)];

include!(concat!(env!("OUT_DIR"), "/carried.rs"));

/// The contract: `wit/`.
pub(crate) fn contract() -> Files {
    WIT
}
