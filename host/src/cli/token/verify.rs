//! `macula-host token verify FILE [--proof FILE]… [--root DID] [--audience DID] [--can CMD] [--topic T] [--plugin MCID [--slot S]]
//! [--at UNIX] [--revoked CID]…`
//!
//! The verdict is a node's: what is given is shown to the same [`Authority`] that relays and hosts have. A token whose command is none
//! of the mesh's, which no node takes, is judged as UCAN says.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use macula_node::{
    StoredTokens,
    auth::{
        Authority, AuthorityConfig, Expected, ExpectedRecord, GrantError, InvocationRefused, Invocations, MemberKey,
        Moment, Operations, Ownership, Permissions, ProofError, Refusal, Slot, Validity, claims_in, proof_of,
        ucan::{
            Chain, ChainError, Cid, Clock, Command, Delegation, Invocation, Ipld, Revocation, Token, TokenError,
            assemble,
        },
    },
    wire::{Mcid, NodeId, Operation, RealmId, Topic},
};

use super::{inspect::whole_chains, unix_now};
use crate::{
    cli::{CommonFlags, home_to_read},
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
    /// The deployment slot that this component has to be covered in
    #[arg(long, value_name = "SLOT", requires = "plugin")]
    slot: Option<Slot>,
    /// The time to check it at, in unix seconds [default: now]
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
refused_from!(ChainError, GrantError, InvocationRefused, ProofError, TokenError, macula_node::auth::OwnClaimError);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Proof(error) => error.into(),
            other => Self { name: other.name(), text: other.to_string() },
        }
    }
}

/// A node that has nothing but what it is shown, and the realm that it is asked about.
struct Judge {
    authority: Authority,
    realm: RealmId,
    now: Moment,
}

/// Who shows claims to names, and who shows the chain in question.
const CLAIMS: MemberKey = MemberKey { link: 0, slot: 0 };
const HOLDER: MemberKey = MemberKey { link: 0, slot: 1 };

impl Verify {
    pub(super) fn run(mut self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home_to_read()?;
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

    /// One of the realm under `root`, that has seen all of these delegations.
    fn judge(&self, root: NodeId, all: &[Arc<Delegation>]) -> Judge {
        // Whoever asks about a file is not bound to so many signatures in a second as a stranger on a link.
        let config = AuthorityConfig { signatures_max: u32::MAX, ..AuthorityConfig::default() };
        let realm = RealmId::new(&root, &"verified.here".parse().expect("a constant name"));
        let now = Moment::at(self.at.unwrap_or_else(unix_now));
        let mut authority = Authority::new(config);
        authority.add_realm(realm, root);
        for revocation in &self.known {
            // Of another realm, or one of too many: the node has it from the same file.
            let _ = authority.revoke(now, &realm, revocation.bytes());
        }
        for delegation in all.iter().filter(|delegation| self.revoked.contains(delegation.cid())) {
            authority.suppose_revoked(&realm, *delegation.cid(), *delegation.issuer());
        }
        let claims: Vec<_> = claims_in(all).iter().map(proof_of).collect();
        // Who owns names is learned, and lets nobody in: that is what the answer says.
        let _ = authority.join(now, CLAIMS, &realm, root, &claims);
        Judge { authority, realm, now }
    }

    /// As a node takes it that is asked: administration and what else names a node, or a record for everybody.
    fn check_invocation(&self, invocation: &Invocation, proofs: &[Arc<Delegation>]) -> Result<(), Refused> {
        if self.can.as_ref().is_some_and(|can| !can.covers(invocation.command())) {
            return Err(Refused { name: "InvalidCommand", text: format!("it asks for {}", invocation.command()) });
        }
        let Some(operation) = Operation::from_command(invocation.command().as_str()) else {
            return self.check_foreign_invocation(invocation, proofs);
        };
        if self.plugin.is_some() {
            let text = "an invocation is signed by a node, and by no plugin on it".into();
            return Err(Refused { name: "MatchError", text });
        }
        let own = match invocation.arguments().get("topic") {
            Some(Ipld::String(topic)) => topic.parse::<Topic>().ok(),
            _ => None,
        };
        let topic = self.topic.clone().or(own).ok_or(InvocationRefused::Command)?;
        let Judge { mut authority, realm, now } = self.judge(self.root.unwrap_or(*invocation.subject()), proofs);
        let tokens: Vec<Vec<u8>> =
            proofs.iter().map(|proof| proof.bytes().to_vec()).chain([invocation.bytes().to_vec()]).collect();
        match self.audience.as_ref().or(invocation.audience()) {
            Some(node) => {
                let expected = Expected { realm: &realm, node, sender: invocation.issuer(), operation, topic: &topic };
                Invocations::default().accept(now.unix, &authority, &tokens, expected)?;
            }
            None => {
                let validity = if invocation.expires().is_some() { Validity::Now } else { Validity::Lasting };
                let expected = ExpectedRecord { realm: &realm, operation, topic: &topic, validity };
                authority.check_record(now, &tokens, expected)?;
            }
        }
        Ok(())
    }

    /// As UCAN says, of what no node is asked for.
    fn check_foreign_invocation(&self, invocation: &Invocation, proofs: &[Arc<Delegation>]) -> Result<(), Refused> {
        let find = |cid: &Cid| proofs.iter().find(|proof| proof.cid() == cid).cloned();
        let chain = invocation.verify(find, &self.clock(), |cid, by| self.is_revoked(cid, by))?;
        let subject = chain.as_ref().map_or(invocation.issuer(), Chain::subject);
        if self.root.is_some_and(|root| root != *subject) {
            return Err(Refused { name: "InvalidSubject", text: format!("it is about what is {subject}'s") });
        }
        if self.audience.is_some_and(|audience| invocation.audience() != Some(&audience)) {
            return Err(Refused { name: "InvalidAudience", text: "it is not for that key".into() });
        }
        let topic = self.topic.as_ref().map(|topic| Ipld::String(topic.to_string()));
        if topic.is_some() && topic.as_ref() != invocation.arguments().get("topic") {
            return Err(Refused { name: "MatchError", text: "it is about another topic, or none".into() });
        }
        Ok(())
    }

    fn clock(&self) -> Clock {
        Clock { now: self.at.unwrap_or_else(unix_now), skew: AuthorityConfig::default().skew }
    }

    fn is_revoked(&self, cid: &Cid, by: &NodeId) -> bool {
        self.revoked.contains(cid) || self.known.iter().any(|known| known.revoked() == cid && known.issuer() == by)
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

    /// As a node takes it that is shown this chain on a link: it is let in, and its table says what it may do.
    fn check(&self, chain: &Chain, all: &[Arc<Delegation>]) -> Result<(), Refused> {
        let command = self.can.as_ref().unwrap_or(chain.command());
        if is_foreign(chain.command()) {
            return self.check_foreign(chain, command);
        }
        let root = self.root.unwrap_or(*chain.subject());
        let node = self.audience.unwrap_or(*chain.audience());
        let Judge { mut authority, realm, now } = self.judge(root, all);
        if Ownership::is_claim(chain) {
            Ownership::read(chain.clone())?;
        }
        let proof = proof_of(chain);
        let checked = authority.check(now.unix, &realm, &node, &proof)?;
        let permissions = authority.join(now, HOLDER, &realm, node, &[proof])?;
        if !chain.command().covers(command) {
            return Err(Refused { name: "InvalidCommand", text: format!("the chain is for {}", chain.command()) });
        }
        let asked = Operations::of_command(command).ok_or_else(|| GrantError::Command(command.clone()))?;
        if command.as_str() == Operation::Relay.command() && !checked.serves_realm() {
            let text = "a relay needs the right to the whole realm, from its root, for the node itself".into();
            return Err(Refused { name: "MatchError", text });
        }
        let table = self.table_of_plugin(&permissions)?;
        let Some(topic) = &self.topic else { return Ok(()) };
        // Those that are about names: of all rights, any.
        let mut about_names = asked.iter().filter(|operation| operation.index() <= Operation::Fetch.index()).peekable();
        let allowed = if about_names.peek().is_some() {
            about_names.any(|operation| table.allows(operation, topic))
        } else {
            checked.reaches(topic)
        };
        if allowed { Ok(()) } else { Err(Refused { name: "MatchError", text: format!("{topic} is not covered") }) }
    }

    /// What of it is the plugin's that was named; all of it when none was.
    fn table_of_plugin(&self, permissions: &Permissions) -> Result<Permissions, Refused> {
        let table = match (&self.plugin, &self.slot) {
            (None, _) => permissions.clone(),
            (Some(plugin), None) => permissions.of_plugin(plugin),
            (Some(plugin), Some(slot)) => permissions.of_slot(slot, plugin),
        };
        if table.is_empty() {
            let text = "it is not for that component: it is for the node itself, or for another".into();
            return Err(Refused { name: "MatchError", text });
        }
        Ok(table)
    }

    /// As UCAN says, of what no node takes.
    fn check_foreign(&self, chain: &Chain, command: &Command) -> Result<(), Refused> {
        if let Some(audience) = self.audience.filter(|audience| audience != chain.audience()) {
            return Err(Refused { name: "InvalidAudience", text: format!("the chain is not for {audience}") });
        }
        chain.check_time(&self.clock())?;
        chain.check_revoked(|cid, by| self.is_revoked(cid, by))?;
        if !chain.command().covers(command) {
            return Err(Refused { name: "InvalidCommand", text: format!("the chain is for {}", chain.command()) });
        }
        if self.plugin.is_some() {
            let text = "it is for no component: its command is none of the mesh's".into();
            return Err(Refused { name: "MatchError", text });
        }
        if let Some(topic) = &self.topic {
            let arguments = [("topic".to_owned(), Ipld::String(topic.to_string()))].into();
            chain.check(command, &Ipld::Map(arguments))?;
        }
        match self.root {
            Some(root) if root != *chain.subject() => {
                let text = format!("the chain begins at {}, not at the root", chain.subject());
                Err(Refused { name: "InvalidSubject", text })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a command is none of the mesh's. `/` is all commands, and so those too.
fn is_foreign(command: &Command) -> bool {
    let command = command.as_str();
    command != "/" && command != "/mesh" && !command.starts_with("/mesh/")
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
