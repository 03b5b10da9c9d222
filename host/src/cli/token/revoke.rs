//! `macula-host token revoke CID`

use std::sync::Arc;

use clap::Args;
use ed25519_dalek::SigningKey;
use macula_node::{
    Home,
    auth::ucan::{Chain, Cid, Delegation, Revocation, assemble},
    wire::{NodeId, RealmId, RealmName},
};

use super::known;
use crate::{
    cli::{ClientFlags, CommonFlags, client, client_runtime, home},
    config::{self, Settings},
    failure::{Failure, Kind},
    output,
};

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The delegation's id, as `token list` and `token inspect` show it
    cid: Cid,
    #[command(flatten)]
    client: ClientFlags,
}

impl Revoke {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home()?;
        let tokens = known(&home, &common.token)?;
        let realm = realm_of(&self.cid, &tokens, common, &home)?;
        let common = &CommonFlags { realm: Some(realm.clone()), ..common.clone() };
        let key = revoker(&home, &realm, &self.cid, &tokens)?;
        let revocation = Revocation::sign(&key, &self.cid);
        let pins = home.pins()?;
        let Some(root) = pins.root(&realm) else {
            return Err(Failure::new(Kind::Denied, format!("realm {realm} is not known here")));
        };
        // On disk first: whatever becomes of the link, every node of this home knows it from its next start on.
        let is_kept = home.revocations()?.iter().any(|(_, kept)| kept == revocation.bytes());
        if !is_kept {
            home.realm_revocations(&realm)?.append(&RealmId::new(root, &realm), revocation.bytes())?;
        }
        let told = self.tell(common, &revocation);
        self.report(told, &revocation, common)
    }

    /// Tells the mesh, if there is a node to tell it through.
    fn tell(&self, common: &CommonFlags, revocation: &Revocation) -> Result<bool, Failure> {
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        if client.node.is_none() && settings.home.running()?.is_empty() {
            return Ok(false);
        }
        client_runtime()?.block_on(async {
            let mesh = client::connect(&settings, &client).await?;
            let told = mesh.revoke(std::slice::from_ref(revocation)).await;
            mesh.close().await;
            Ok(told.map(|()| true)?)
        })
    }

    fn report(
        &self,
        told: Result<bool, Failure>,
        revocation: &Revocation,
        common: &CommonFlags,
    ) -> Result<(), Failure> {
        let is_told = *told.as_ref().unwrap_or(&false);
        if common.json {
            let by = revocation.issuer();
            output::json(&serde_json::json!({ "revoked": self.cid.to_string(), "by": by, "told": is_told }));
        } else {
            output::line(format_args!("revoked {} by {}", self.cid, revocation.issuer()));
            if told.is_ok() && !is_told {
                output::note("no node runs here: it is kept, and told to the mesh when one does");
            }
        }
        told.map(|_| ()).map_err(|error| error.during("kept here, but not told to the mesh"))
    }
}

/// The realm that a delegation is about, by the root that it comes from; by the flags when that is not known here.
fn realm_of(cid: &Cid, tokens: &[Arc<Delegation>], common: &CommonFlags, home: &Home) -> Result<RealmName, Failure> {
    let chosen = config::chosen_realm(common, home)?;
    let delegation = tokens.iter().find(|token| token.cid() == cid);
    let chains = delegation.map(|delegation| assemble(tokens, delegation.audience())).unwrap_or_default();
    let pins = home.pins()?;
    let root = chains.iter().filter(|chain| chain.last().cid() == cid).map(Chain::subject);
    let of_root = |root: &NodeId| pins.iter().find(|(_, pinned)| *pinned == root).map(|(name, _)| name.clone());
    match root.filter_map(of_root).next() {
        Some(realm) if common.realm.as_ref().is_some_and(|asked| *asked != realm) => {
            Err(Failure::usage(format!("{cid} is about realm {realm}, not {chosen}")))
        }
        Some(realm) => Ok(realm),
        None if delegation.is_none() && common.realm.is_none() => Err(Failure::usage(format!(
            "{cid} is not among the delegations that are kept here: name its file with --token, or its realm with --realm"
        ))),
        None => Ok(chosen),
    }
}

/// A key of this home that issued the delegation or one above it: nobody else's word counts.
fn revoker(home: &Home, realm: &RealmName, cid: &Cid, tokens: &[Arc<Delegation>]) -> Result<SigningKey, Failure> {
    let root = home.realm_key(realm)?;
    let Some(delegation) = tokens.iter().find(|token| token.cid() == cid) else {
        // The realm's root is above everything, known here or not.
        return root.ok_or_else(|| {
            let message = format!(
                "{cid} is not among the delegations that are kept here, and neither is realm {realm}'s root key: name its file with --token"
            );
            Failure::not_found(message)
        });
    };
    let mut keys: Vec<SigningKey> = home.keys()?.into_iter().map(|(_, key)| key).collect();
    keys.extend(root);
    let held = |id: &NodeId| keys.iter().find(|key| NodeId::from(key.verifying_key()) == *id).cloned();
    // From the delegation up to the root, on every way that there is.
    let chains = assemble(tokens, delegation.audience());
    let chains = chains.iter().filter(|chain| chain.last().cid() == cid);
    let links = chains.flat_map(|chain| chain.links().iter().rev());
    let mut issuers = std::iter::once(delegation.issuer()).chain(links.map(|link| link.issuer()));
    if let Some(key) = issuers.find_map(held) {
        return Ok(key);
    }
    let message =
        format!("no key of this home issued {cid} or anything above it; {} can revoke it", delegation.issuer());
    Err(Failure::new(Kind::Denied, message))
}
