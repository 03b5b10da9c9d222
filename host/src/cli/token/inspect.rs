//! `macula-host token inspect FILE`

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use macula_node::auth::{
    Pins,
    ucan::{Chain, Delegation, Token, assemble},
};

use super::{delegations, describe, tokens_of, unix_now};
use crate::{
    cli::{CommonFlags, home_to_read},
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A file of tokens
    file: PathBuf,
}

impl Inspect {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let tokens = tokens_of(&self.file)?;
        let (now, realms) = (unix_now(), home_to_read()?.pins()?);
        if common.json {
            for token in &tokens {
                match token {
                    Token::Delegation(delegation) => output::json(&describe::json(delegation, &realms)),
                    Token::Invocation(invocation) => output::json(&serde_json::json!({
                        "cid": invocation.cid().to_string(),
                        "issuer": invocation.issuer(),
                        "command": invocation.command().as_str(),
                        "proofs": invocation.proofs().iter().map(ToString::to_string).collect::<Vec<_>>(),
                        "expires": invocation.expires(),
                    })),
                };
            }
            return Ok(());
        }
        for token in &tokens {
            if let Token::Invocation(invocation) = token {
                output::line(output::readable(&describe::invocation(invocation, now, "").join("\n")));
            }
        }
        for line in tree(&delegations(tokens).collect::<Vec<_>>(), &realms, now) {
            output::line(output::readable(&line));
        }
        Ok(())
    }
}

/// Each chain from its last delegation up to the root; then what belongs to none.
fn tree(delegations: &[Arc<Delegation>], realms: &Pins, now: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut shown = Vec::new();
    for chain in whole_chains(delegations) {
        for (depth, link) in chain.links().iter().rev().enumerate() {
            let indent = "  ".repeat(depth);
            if depth > 0 {
                lines.push(format!("{}because", "  ".repeat(depth - 1) + "  "));
            }
            let indent = format!("{indent}{}", if depth > 0 { "  " } else { "" });
            lines.extend(describe::delegation(link, realms, now, &indent));
            shown.push(*link.cid());
        }
    }
    for delegation in delegations.iter().filter(|delegation| !shown.contains(delegation.cid())) {
        lines.extend(describe::delegation(delegation, realms, now, ""));
        lines.push("  (its proofs are not in this file)".into());
    }
    lines
}

/// The chains that are not part of longer ones.
pub(super) fn whole_chains(delegations: &[Arc<Delegation>]) -> Vec<Chain> {
    let passes_on = |last: &Delegation| {
        delegations.iter().any(|other| other.issuer() == last.audience() && other.cid() != last.cid())
    };
    let mut ends: Vec<_> = delegations.iter().filter(|last| !passes_on(last)).map(|last| *last.audience()).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.iter().flat_map(|end| assemble(delegations, end)).collect()
}
