//! `macula-host token issue --to DID --can CMD [--topic PATTERN]… [--plugin MCID] [--expires 24h] [--proof FILE]…`

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use ed25519_dalek::SigningKey;
use macula_node::{
    Home,
    auth::{
        Binding, Issuing, Namespace, NotGrantable, Owners, Ownership, Scope, Slot, Terms, claims_in, issue,
        ucan::{Chain, Cid, Command, Delegation, Ipld, assemble, container},
    },
    nonce,
    wire::{Mcid, NodeId, Operation, Pattern, RealmName},
};

use super::{delegations_of, known, unix_now};
use crate::{
    cli::{CommonFlags, home},
    config,
    failure::{Failure, Kind},
    output,
};

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// Who gets the right: a did:key, or did:macula:NAMESPACE for whoever owns that
    #[arg(long, value_name = "DID")]
    to: String,
    /// The right: /mesh/subscribe, publish, advertise, call, fetch, deploy, own, relay or admin; /mesh is all of them
    #[arg(long, value_name = "COMMAND")]
    can: Command,
    /// On which names: a name, or everything below one ('io.example.**'); repeat for more [default: all that the issuer has]
    #[arg(long, value_name = "PATTERN")]
    topic: Vec<Pattern>,
    /// Only for the component with this content id
    #[arg(long, value_name = "MCID")]
    plugin: Option<Mcid>,
    /// Only for what this deployment slot holds
    #[arg(long, value_name = "SLOT")]
    slot: Option<Slot>,
    /// How long it holds
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "24h")]
    expires: Duration,
    /// What the issuer's own right rests on, beside what is in $MACULA_HOME/tokens; repeat for more
    #[arg(long, value_name = "FILE")]
    proof: Vec<PathBuf>,
    /// With /mesh/own: which grant of the namespace this is; a higher one replaces a lower one
    #[arg(long, value_name = "NUMBER")]
    epoch: Option<u64>,
}

/// Who can sign, and by what.
struct Issuer {
    key: SigningKey,
    proof: Option<Chain>,
    /// What has to go along: who owns the names.
    claim: Option<Chain>,
}

impl Issue {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home()?;
        let realm = config::chosen_realm(common, &home)?;
        let now = unix_now();
        let tokens = known(&home, &self.proof)?;
        let issuing = self.issuing(&tokens, now)?;
        let mut issuers = issuers(&home, &realm, &tokens)?;
        if !self.proof.is_empty() {
            // Who names a proof means it, and not something else that is here too.
            let named: Vec<Cid> = delegations_of(&self.proof)?.iter().map(|delegation| *delegation.cid()).collect();
            issuers.retain(|issuer| issuer.rests_on(&named));
            if issuers.is_empty() {
                let message = format!(
                    "--proof: nothing in it is for a key of this home in realm {realm} (macula-host token inspect shows whom it is for, --realm chooses the realm)"
                );
                return Err(Failure::new(Kind::Denied, message));
            }
        }
        issuers.sort_by_key(|issuer| !issuer.is_root());
        if issuers.is_empty() {
            let message = format!(
                "nothing here can grant anything in realm {realm}: neither its root key, nor a delegation to a key of this home"
            );
            return Err(Failure::new(Kind::Denied, message));
        }
        let mut refused = None;
        for issuer in issuers {
            match issue(&issuer.key, issuer.proof.as_ref(), issuing.clone(), now) {
                Ok(chain) if covers(&issuer, &chain) => return self.give_out(&home, &realm, &issuer, &chain, common),
                Ok(_) => {}
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        let what = format!("{} on {}", self.can, names(&self.topic));
        Err(match refused {
            Some(error) => Failure::new(Kind::Denied, format!("cannot grant {what}: {error}")),
            None => Failure::new(Kind::Denied, format!("cannot grant {what}: nobody here owns these names")),
        })
    }

    fn issuing(&self, tokens: &[Arc<Delegation>], now: u64) -> Result<Issuing, Failure> {
        let is_own = self.can.as_str() == Operation::Own.command();
        let scope = if is_own { self.namespace()? } else { self.scope()? };
        if self.can.as_str() == Operation::Relay.command() && scope != Scope::All {
            return Err(Failure::usage("/mesh/relay is for the whole realm; leave --topic out"));
        }
        let is_known = self.can.as_str() == "/mesh" || Operation::from_command(self.can.as_str()).is_some();
        if !is_known {
            let known: Vec<&str> = Operation::ALL.into_iter().map(Operation::command).collect();
            return Err(Failure::usage(format!("{} is no right (there are /mesh, {})", self.can, known.join(", "))));
        }
        if self.expires.as_secs() == 0 {
            return Err(Failure::usage("--expires: a delegation holds for a second at least"));
        }
        if self.epoch.is_some() && !is_own {
            return Err(Failure::usage("--epoch goes with --can /mesh/own"));
        }
        let epoch = self.epoch.map(|epoch| ("epoch".to_owned(), Ipld::Integer(epoch.into())));
        Ok(Issuing {
            audience: self.audience(tokens)?,
            command: self.can.clone(),
            terms: Terms { scope, binding: Binding { plugin: self.plugin.clone(), slot: self.slot.clone() } },
            expires: Some(now.saturating_add(self.expires.as_secs())),
            nonce: nonce(),
            meta: epoch.into_iter().collect::<BTreeMap<_, _>>(),
        })
    }

    fn scope(&self) -> Result<Scope, Failure> {
        if self.topic.is_empty() {
            return Ok(Scope::All);
        }
        Scope::new(self.topic.iter().cloned()).map_err(|error: NotGrantable| Failure::usage(error))
    }

    fn namespace(&self) -> Result<Scope, Failure> {
        let [name] = &self.topic[..] else {
            return Err(Failure::usage("/mesh/own is for one namespace: --topic io.example.user"));
        };
        let namespace: Namespace = name.as_str().parse().map_err(Failure::usage)?;
        Scope::new(namespace.patterns()).map_err(Failure::usage)
    }

    fn audience(&self, tokens: &[Arc<Delegation>]) -> Result<NodeId, Failure> {
        if !self.to.starts_with("did:macula:") {
            return self.to.parse().map_err(Failure::usage);
        }
        let namespace = Namespace::from_did(&self.to).map_err(Failure::usage)?;
        let mut owners = Owners::default();
        for claim in claims_in(tokens) {
            if let Ok(claim) = Ownership::read(claim) {
                // A full table is not reached by the files of one home, and by which of its claims a key owns a name is all one.
                let _ = owners.learn(&claim, |_| true);
            }
        }
        let owner = owners.resolve(&namespace).map(|claim| *claim.owner());
        owner.ok_or_else(|| Failure::not_found(format!("{}: no file here says who owns that, or two keys do", self.to)))
    }

    fn give_out(
        &self,
        home: &Home,
        realm: &RealmName,
        issuer: &Issuer,
        chain: &Chain,
        common: &CommonFlags,
    ) -> Result<(), Failure> {
        let last = chain.last();
        let claim = issuer.claim.iter().flat_map(Chain::links);
        let tokens = chain.links().iter().chain(claim).map(|link| link.bytes());
        let packed = container::encode(tokens, container::Encoding::Base64Url);
        let path = home.keep_tokens(last.cid(), &packed)?;
        let text = String::from_utf8_lossy(&packed);
        if common.json {
            output::json(&serde_json::json!({
                "token": text,
                "cid": last.cid().to_string(),
                "realm": realm,
                "to": last.audience(),
                "expires": chain.expires(),
            }));
        } else {
            output::line(text);
            if output::is_watched() {
                let (right, names) = (last.command(), names(&self.topic));
                output::note(format!("{right} on {names} in realm {realm} for {}", last.audience()));
                output::note(format!("a copy, to list and revoke it by, is in {}", path.display()));
            }
        }
        Ok(())
    }
}

impl Issuer {
    fn is_root(&self) -> bool {
        self.proof.is_none() && self.claim.is_none()
    }

    /// Whether what it has ends with one of these delegations.
    fn rests_on(&self, delegations: &[Cid]) -> bool {
        self.proof.iter().chain(&self.claim).any(|chain| delegations.contains(chain.last().cid()))
    }
}

/// Everybody here who holds something in the realm.
fn issuers(home: &Home, realm: &RealmName, tokens: &[Arc<Delegation>]) -> Result<Vec<Issuer>, Failure> {
    let pins = home.pins()?;
    let Some(root) = pins.root(realm).copied() else {
        return Err(Failure::new(
            Kind::Denied,
            format!("realm {realm} is not known here; macula-host realm list shows all"),
        ));
    };
    let mut issuers = Vec::new();
    for (_, key) in home.keys()? {
        let id = NodeId::from(key.verifying_key());
        for proof in assemble(tokens, &id).into_iter().filter(|proof| *proof.subject() == root) {
            let is_claim = Ownership::is_claim(&proof);
            let (own, claim) = if is_claim { (None, Some(proof.clone())) } else { (Some(proof.clone()), None) };
            issuers.push(Issuer { key: key.clone(), proof: own, claim });
            if is_claim {
                // To pass a part of the namespace on.
                issuers.push(Issuer { key: key.clone(), proof: Some(proof), claim: None });
            }
        }
    }
    if let Some(key) = home.realm_key(realm)? {
        issuers.push(Issuer { key, proof: None, claim: None });
    }
    Ok(issuers)
}

/// Whether what an owner grants is in what it owns. Claims themselves are passed on by a proof.
fn covers(issuer: &Issuer, chain: &Chain) -> bool {
    let Some(claim) = &issuer.claim else { return true };
    let Ok(claim) = Ownership::read(claim.clone()) else { return false };
    let last = chain.last();
    let owned = Scope::Within(claim.namespace().patterns().into());
    !Ownership::is_claim(chain)
        && Terms::read(last.policy()).is_ok_and(|terms| match terms.scope {
            Scope::All => false,
            Scope::Within(patterns) => patterns.iter().all(|pattern| owned.covers(pattern)),
        })
}

fn names(topics: &[Pattern]) -> String {
    if topics.is_empty() {
        "all names".into()
    } else {
        topics.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ")
    }
}
