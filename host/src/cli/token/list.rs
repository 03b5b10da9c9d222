//! `macula-host token list`

use clap::Args;
use macula_node::{
    auth::{Pins, ucan::Chain},
    wire::NodeId,
};

use super::{delegations, describe, inspect::whole_chains, unix_now};
use crate::{
    cli::{CommonFlags, home_to_read},
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home_to_read()?;
        let (now, realms) = (unix_now(), home.pins()?);
        let own: Vec<NodeId> = home.keys()?.iter().map(|(_, key)| key.verifying_key().into()).collect();
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
                        let is_held = own.contains(chain.audience());
                        print(&Listed { chain: &chain, state, is_held, realms: &realms }, now, common);
                    }
                }
            }
        }
        Ok(())
    }
}

struct Listed<'a> {
    chain: &'a Chain,
    state: &'a str,
    /// It is for a key of this home.
    is_held: bool,
    realms: &'a Pins,
}

fn print(listed: &Listed<'_>, now: u64, common: &CommonFlags) {
    let Listed { chain, state, is_held, realms } = *listed;
    let last = chain.last();
    if common.json {
        let mut line = describe::json(last, realms);
        line["state"] = state.into();
        line["held"] = is_held.into();
        line["realm"] = serde_json::json!(describe::realm_of(chain.subject(), realms));
        output::json(&line);
    } else {
        let (names, until) = (describe::names(last.policy()), describe::until(chain.expires(), now));
        let realm = match describe::realm_of(chain.subject(), realms) {
            Some(realm) => format!("realm {realm}"),
            None => format!("of {}", chain.subject()),
        };
        let whose = if is_held { "held here, as" } else { "to" };
        output::line(format_args!("{} {state} {} on {names} ({realm})", last.cid(), last.command()));
        output::line(format_args!("  {whose} {}, {until}", last.audience()));
    }
}
