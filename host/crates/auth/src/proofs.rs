//! Chains out of a set of tokens, and as they are sent.

use std::sync::Arc;

use macula_ucan::{Chain, Delegation, assemble};
use macula_wire::{NodeId, Operation, control::Proof};
use serde_bytes::ByteBuf;

use crate::Ownership;

/// A chain as it is sent.
pub fn proof_of(chain: &Chain) -> Proof {
    Proof(chain.links().iter().map(|link| ByteBuf::from(link.bytes())).collect())
}

/// The chains of a set of tokens that are for `node`.
pub fn chains_for(tokens: &[Arc<Delegation>], node: &NodeId) -> Vec<Chain> {
    assemble(tokens, node).into_iter().filter(|chain| !Ownership::is_claim(chain)).collect()
}

/// The chains of a set of tokens that say who owns which names, whoever that is.
pub fn claims_in(tokens: &[Arc<Delegation>]) -> Vec<Chain> {
    let own = Operation::Own.command();
    let mut owners: Vec<NodeId> =
        tokens.iter().filter(|token| token.command().as_str() == own).map(|token| *token.audience()).collect();
    owners.sort_unstable();
    owners.dedup();
    owners.iter().flat_map(|owner| assemble(tokens, owner)).filter(Ownership::is_claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, link, own_link, owners_link};

    #[test]
    fn files_hold_tokens_in_any_order() {
        let tokens: Vec<Arc<Delegation>> = [
            link(1, 9, "/mesh/publish", &[]),
            link(200, 1, "/mesh", &[]),
            link(200, 8, "/mesh", &[]),
            own_link(200, 2, "io.example", None),
            owners_link(2, 9, "/mesh/call", &["io.example.**"]),
        ]
        .map(Arc::new)
        .into();
        let chains = chains_for(&tokens, &id(9));
        let mut lengths: Vec<usize> = chains.iter().map(|chain| proof_of(chain).0.len()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [1, 2]);
        assert_eq!(claims_in(&tokens).len(), 1);
        assert!(chains_for(&tokens, &id(2)).is_empty(), "a claim is no grant");
    }
}
