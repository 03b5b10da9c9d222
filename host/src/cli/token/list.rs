//! `macula-host token list`

use clap::Args;
use macula_node::auth::ucan::Chain;

use super::{delegations, describe, inspect::whole_chains, unix_now};
use crate::{
    cli::{CommonFlags, home},
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home()?;
        let now = unix_now();
        let revoked: Vec<_> = home
            .revocations()?
            .iter()
            .filter_map(|(_, token)| macula_node::auth::ucan::Revocation::decode(token).ok())
            .collect();
        let is_revoked = |chain: &Chain| {
            let says = |cid: &_, by: &_| revoked.iter().any(|one| one.revoked() == cid && one.issuer() == by);
            chain.check_revoked(says).is_err()
        };
        for stored in home.tokens()? {
            match stored.tokens {
                Err(error) => output::note(format!("{}: {error} ({})", stored.path.display(), error.name())),
                Ok(tokens) => {
                    for chain in whole_chains(&delegations(tokens).collect::<Vec<_>>()) {
                        let state = if is_revoked(&chain) {
                            "revoked"
                        } else if chain.expires().is_some_and(|expires| expires < now) {
                            "expired"
                        } else {
                            "valid"
                        };
                        print(&chain, state, now, common);
                    }
                }
            }
        }
        Ok(())
    }
}

fn print(chain: &Chain, state: &str, now: u64, common: &CommonFlags) {
    let last = chain.last();
    if common.json {
        let mut line = describe::json(last);
        line["state"] = state.into();
        output::json(&line);
    } else {
        let (names, until) = (describe::names(last.policy()), describe::until(chain.expires(), now));
        output::line(format_args!("{} {state} {} on {names}", last.cid(), last.command()));
        output::line(format_args!("  to {}, until {until}", last.audience()));
    }
}
