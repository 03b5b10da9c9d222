//! Keys and tokens for tests: a key for each seed; 200 is the realm's root.

use std::{collections::BTreeMap, sync::Arc};

use ed25519_dalek::SigningKey;
use macula_ucan::{Chain, ChainError, Delegation, DelegationFields, Ipld};
use macula_wire::{NodeId, RealmId, control::Proof};
use serde_bytes::ByteBuf;

use crate::{Binding, Namespace, Scope, Terms};

/// When tokens of tests expire.
pub(crate) const EXPIRES: u64 = 2000;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn id(seed: u8) -> NodeId {
    key(seed).verifying_key().into()
}

pub(crate) fn root_id() -> NodeId {
    id(200)
}

pub(crate) fn realm_id() -> RealmId {
    RealmId::new(&root_id(), &"io.example".parse().unwrap())
}

/// A delegation below the realm's root.
pub(crate) fn link(from: u8, to: u8, command: &str, patterns: &[&str]) -> Delegation {
    link_for(from, to, command, patterns, Binding::default())
}

pub(crate) fn link_for(from: u8, to: u8, command: &str, patterns: &[&str], binding: Binding) -> Delegation {
    let scope = if patterns.is_empty() { Scope::All } else { scope(patterns) };
    fields(to, command, &Terms { scope, binding }, BTreeMap::new(), Some(EXPIRES)).sign(&key(from)).unwrap()
}

/// As [`link`], with another end.
pub(crate) fn link_until(from: u8, to: u8, command: &str, patterns: &[&str], expires: u64) -> Delegation {
    let scope = if patterns.is_empty() { Scope::All } else { scope(patterns) };
    let terms = Terms { scope, ..Terms::all() };
    fields(to, command, &terms, BTreeMap::new(), Some(expires)).sign(&key(from)).unwrap()
}

/// A delegation of a namespace.
pub(crate) fn own_link(from: u8, to: u8, namespace: &str, epoch: Option<i128>) -> Delegation {
    let namespace: Namespace = namespace.parse().unwrap();
    let terms = Terms { scope: Scope::Within(namespace.patterns().into()), ..Terms::all() };
    let meta = epoch.map(|epoch| ("epoch".to_owned(), Ipld::Integer(epoch))).into_iter().collect();
    fields(to, "/mesh/own", &terms, meta, Some(EXPIRES)).sign(&key(from)).unwrap()
}

/// What an owner may say of names that it owns, before it says of which.
pub(crate) fn owners_fields(from: u8, to: u8, command: &str) -> DelegationFields {
    let mut fields = fields(to, command, &Terms::all(), BTreeMap::new(), Some(EXPIRES));
    fields.subject = Some(id(from));
    fields
}

/// A delegation of names that its issuer owns.
pub(crate) fn owners_link(from: u8, to: u8, command: &str, patterns: &[&str]) -> Delegation {
    let mut fields =
        fields(to, command, &Terms { scope: scope(patterns), ..Terms::all() }, BTreeMap::new(), Some(EXPIRES));
    fields.subject = Some(id(from));
    fields.sign(&key(from)).unwrap()
}

fn scope(patterns: &[&str]) -> Scope {
    Scope::new(patterns.iter().map(|pattern| pattern.parse().unwrap())).unwrap()
}

fn fields(
    to: u8,
    command: &str,
    terms: &Terms,
    meta: BTreeMap<String, Ipld>,
    expires: Option<u64>,
) -> DelegationFields {
    DelegationFields {
        audience: id(to),
        subject: Some(root_id()),
        command: command.parse().unwrap(),
        policy: terms.to_policy().unwrap(),
        expires,
        not_before: None,
        nonce: vec![1; 12],
        meta,
    }
}

pub(crate) fn chain(links: Vec<Delegation>) -> Result<Chain, ChainError> {
    Chain::new(links.into_iter().map(Arc::new).collect())
}

pub(crate) fn proof(links: &[&Delegation]) -> Proof {
    Proof(links.iter().map(|link| ByteBuf::from(link.bytes())).collect())
}
