//! `macula-host token verify FILE [--proof FILE]… [--root DID] [--audience DID] [--can CMD] [--topic T] [--at UNIX] [--revoked CID]…`

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use macula_node::{
    StoredTokens,
    auth::{
        Grant, Operations, Ownership, Permissions, Scope, claims_in,
        ucan::{Chain, Cid, Clock, Command, Delegation, Invocation, Ipld, Revocation, Token, assemble},
    },
    wire::{Mcid, NodeId, Operation, Topic},
};

use super::{inspect::whole_chains, unix_now};
use crate::{
    cli::{CommonFlags, home},
    config::token_failure,
    failure::{Failure, Kind},
    output,
};

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A delegation, alone or with its proofs; or an invocation
    file: PathBuf,
    /// What it rests on, the root's first; repeat for more
    #[arg(long, value_name = "FILE")]
    proof: Vec<PathBuf>,
    /// The key that the chain has to begin at, or whose owner of the names it has to
    #[arg(long, value_name = "DID")]
    root: Option<NodeId>,
    /// The key that it has to be for
    #[arg(long, value_name = "DID")]
    audience: Option<NodeId>,
    /// The right that it has to give
    #[arg(long, value_name = "COMMAND")]
    can: Option<Command>,
    /// The name that it has to give it on
    #[arg(long, value_name = "TOPIC")]
    topic: Option<Topic>,
    /// The component that has to be covered, by its content id
    #[arg(long, value_name = "MCID")]
    plugin: Option<Mcid>,
    /// The time to check it at, in unix seconds, to the second [default: now]
    #[arg(long, value_name = "UNIX")]
    at: Option<u64>,
    /// A delegation to take as revoked, beside what this home knows to be; repeat for more
    #[arg(long, value_name = "CID")]
    revoked: Vec<Cid>,
    /// What this home knows to be revoked.
    #[arg(skip)]
    known: Vec<Revocation>,
}

/// Why it is not valid: the error's name, and a sentence.
struct Refused {
    name: &'static str,
    text: String,
}

macro_rules! refused_from {
    ($($error:ty),+) => {$(
        impl From<$error> for Refused {
            fn from(error: $error) -> Self {
                Self { name: error.name(), text: error.to_string() }
            }
        }
    )+};
}
refused_from!(
    macula_node::auth::ucan::ChainError,
    macula_node::auth::ucan::TokenError,
    macula_node::auth::GrantError,
    macula_node::auth::OwnClaimError
);

impl Verify {
    pub(super) fn run(mut self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home()?;
        let revocations = home.revocations()?;
        self.known = revocations.iter().filter_map(|(_, token)| Revocation::decode(token).ok()).collect();
        let mut files = Vec::new();
        for path in self.proof.iter().chain([&self.file]) {
            match StoredTokens::read(path).tokens {
                Ok(tokens) => files.push(tokens),
                Err(error @ macula_node::TokenFileError::Io(_)) => return Err(token_failure(path, &error)),
                Err(error) => {
                    return say(
                        Err(Refused { name: error.name(), text: format!("{}: {error}", path.display()) }),
                        common,
                    );
                }
            }
        }
        let outcome = self.verify(files);
        if outcome.is_ok() && self.root.is_none() && output::is_watched() {
            output::note("the root was not asked for: --root DID tells whether it begins at your realm's");
        }
        say(outcome, common)
    }

    fn verify(&self, mut files: Vec<Vec<Token>>) -> Result<(), Refused> {
        let own = files.pop().unwrap_or_default();
        let mut invocation = None;
        let mut proofs: Vec<Arc<Delegation>> = Vec::new();
        let mut own_delegations = Vec::new();
        for (token, is_own) in
            files.into_iter().flatten().map(|token| (token, false)).chain(own.into_iter().map(|token| (token, true)))
        {
            match token {
                Token::Invocation(found) if is_own => invocation = Some(found),
                Token::Invocation(_) => {}
                Token::Delegation(delegation) if is_own => own_delegations.push(Arc::new(delegation)),
                Token::Delegation(delegation) => proofs.push(Arc::new(delegation)),
            }
        }
        match invocation {
            Some(invocation) => {
                proofs.extend(own_delegations);
                self.check_invocation(&invocation, &proofs)
            }
            None => self.check_delegations(&proofs, &own_delegations),
        }
    }

    fn clock(&self) -> Clock {
        Clock { now: self.at.unwrap_or_else(unix_now), skew: 0 }
    }

    fn is_revoked(&self, cid: &Cid, by: &NodeId) -> bool {
        self.revoked.contains(cid) || self.known.iter().any(|known| known.revoked() == cid && known.issuer() == by)
    }

    fn check_invocation(&self, invocation: &Invocation, proofs: &[Arc<Delegation>]) -> Result<(), Refused> {
        let find = |cid: &Cid| proofs.iter().find(|proof| proof.cid() == cid).cloned();
        let chain = invocation.verify(find, &self.clock(), |cid, by| self.is_revoked(cid, by))?;
        let subject = chain.as_ref().map_or(invocation.issuer(), Chain::subject);
        if self.root.is_some_and(|root| root != *subject) {
            return Err(Refused { name: "InvalidSubject", text: format!("it is about what is {subject}'s") });
        }
        if self.audience.is_some_and(|audience| invocation.audience() != Some(&audience)) {
            return Err(Refused { name: "InvalidAudience", text: "it is not for that key".into() });
        }
        if self.can.as_ref().is_some_and(|can| !can.covers(invocation.command())) {
            return Err(Refused { name: "InvalidCommand", text: format!("it asks for {}", invocation.command()) });
        }
        Ok(())
    }

    fn check_delegations(&self, proofs: &[Arc<Delegation>], own: &[Arc<Delegation>]) -> Result<(), Refused> {
        let all: Vec<Arc<Delegation>> = proofs.iter().chain(own).cloned().collect();
        let mut found = match (own, self.audience) {
            (_, Some(audience)) => assemble(&all, &audience),
            ([last], None) => {
                assemble(&all, last.audience()).into_iter().filter(|chain| chain.links().last() == Some(last)).collect()
            }
            (_, None) => whole_chains(&all),
        };
        if found.is_empty() {
            found = whole_chains(&all);
        }
        let mut refused = None;
        for chain in &found {
            match self.check(chain, &all) {
                Ok(()) => return Ok(()),
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        // Nothing goes together: the error is about the tokens in the order in which they were given.
        Err(match (refused, Chain::new(all)) {
            (Some(refused), _) => refused,
            (None, Err(error)) => error.into(),
            (None, Ok(_)) => Refused { name: "InvalidClaim", text: "the tokens make no chain".into() },
        })
    }

    fn check(&self, chain: &Chain, all: &[Arc<Delegation>]) -> Result<(), Refused> {
        if let Some(audience) = self.audience.filter(|audience| audience != chain.audience()) {
            return Err(Refused { name: "InvalidAudience", text: format!("the chain is not for {audience}") });
        }
        chain.check_time(&self.clock())?;
        chain.check_revoked(|cid, by| self.is_revoked(cid, by))?;
        let command = self.can.as_ref().unwrap_or(chain.command());
        if !chain.command().covers(command) {
            return Err(Refused { name: "InvalidCommand", text: format!("the chain is for {}", chain.command()) });
        }
        if command.as_str() == "/mesh" || command.as_str().starts_with("/mesh/") {
            self.check_on_mesh(chain, command)?;
        } else if let Some(topic) = &self.topic {
            let arguments = [("topic".to_owned(), Ipld::String(topic.to_string()))].into();
            chain.check(command, &Ipld::Map(arguments))?;
        }
        match self.root {
            Some(root) if root != *chain.subject() => self.check_owner(chain, all, root),
            _ => Ok(()),
        }
    }

    /// As relays and hosts read it: the mesh's own commands and policies.
    fn check_on_mesh(&self, chain: &Chain, command: &Command) -> Result<(), Refused> {
        let grant = Grant::read(chain.clone())?;
        if let (Some(bound), Some(plugin)) = (&grant.binding().plugin, &self.plugin)
            && bound != plugin
        {
            return Err(Refused { name: "MatchError", text: format!("it is for the component {bound}") });
        }
        let asked = Operations::of_command(command)
            .ok_or_else(|| Refused { name: "InvalidCommand", text: format!("{command} is no command of the mesh") })?;
        let Some(topic) = &self.topic else { return Ok(()) };
        let table = Permissions::of_grants([&grant]);
        // Those that are about names: of all rights, any.
        let mut about_names = asked.iter().filter(|operation| operation.index() <= Operation::Fetch.index()).peekable();
        let allowed = if about_names.peek().is_some() {
            about_names.any(|operation| table.allows(operation, topic))
        } else {
            grant.scope().contains(topic) || (topic.is_reserved() && *grant.scope() == Scope::All)
        };
        if allowed { Ok(()) } else { Err(Refused { name: "MatchError", text: format!("{topic} is not covered") }) }
    }

    /// A chain may begin at the owner of the names, where another shows that.
    fn check_owner(&self, chain: &Chain, all: &[Arc<Delegation>], root: NodeId) -> Result<(), Refused> {
        let subject = chain.subject();
        let not_rooted =
            || Refused { name: "InvalidSubject", text: format!("the chain begins at {subject}, not at the root") };
        let scope = Grant::read(chain.clone())?.scope().clone();
        for claim in claims_in(all) {
            let held = *claim.subject() == root
                && claim.check_time(&self.clock()).is_ok()
                && claim.check_revoked(|cid, by| self.is_revoked(cid, by)).is_ok();
            let claim = Ownership::read(claim)?;
            let owned = Scope::Within(claim.namespace().patterns().into());
            let topic_is_owned = match &self.topic {
                Some(topic) => owned.contains(topic),
                None => scope.patterns().iter().all(|pattern| owned.covers(pattern)),
            };
            if held && claim.owner() == subject && topic_is_owned {
                return Ok(());
            }
        }
        Err(not_rooted())
    }
}

/// Prints the verdict; what is not valid is denied.
fn say(outcome: Result<(), Refused>, common: &CommonFlags) -> Result<(), Failure> {
    let name = outcome.as_ref().map_or_else(|refused| refused.name, |()| "valid");
    if common.json {
        output::json(&serde_json::json!({ "valid": outcome.is_ok(), "result": name }));
    } else {
        output::line(name);
    }
    outcome.map_err(|refused| Failure::new(Kind::Denied, refused.text))
}
