//! A payload's fields, taken one by one; what is left over is unknown and refused, for it was signed to mean something.

use std::collections::BTreeMap;

use cid::Cid;
use ipld_core::ipld::Ipld;
use macula_wire::NodeId;

use crate::{
    Command, TokenError,
    limits::{INTEGER_MAX, NONCE_BYTES_MAX},
};

type Name = &'static str;

/// The fields of a payload.
#[derive(Debug, Default)]
pub(crate) struct Fields(BTreeMap<String, Ipld>);

impl Fields {
    pub(crate) fn new(map: BTreeMap<String, Ipld>) -> Self {
        Self(map)
    }

    pub(crate) fn into_map(self) -> BTreeMap<String, Ipld> {
        self.0
    }

    /// Adds a field.
    pub(crate) fn put(&mut self, name: Name, value: Ipld) {
        self.0.insert(name.to_owned(), value);
    }

    /// Adds a field that may be left out.
    pub(crate) fn put_some(&mut self, name: Name, value: Option<Ipld>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    pub(crate) fn put_time(&mut self, name: Name, time: Option<u64>) {
        self.put(name, time.map_or(Ipld::Null, |time| Ipld::Integer(time.into())));
    }

    pub(crate) fn take(&mut self, name: Name) -> Result<Ipld, TokenError> {
        self.0.remove(name).ok_or(TokenError::MissingField(name))
    }

    pub(crate) fn take_some(&mut self, name: Name) -> Option<Ipld> {
        self.0.remove(name)
    }

    pub(crate) fn principal(&mut self, name: Name) -> Result<NodeId, TokenError> {
        principal(name, &self.take(name)?)
    }

    /// A principal, or null for anybody.
    pub(crate) fn principal_or_null(&mut self, name: Name) -> Result<Option<NodeId>, TokenError> {
        match self.take(name)? {
            Ipld::Null => Ok(None),
            value => principal(name, &value).map(Some),
        }
    }

    pub(crate) fn principal_if_any(&mut self, name: Name) -> Result<Option<NodeId>, TokenError> {
        self.take_some(name).map(|value| principal(name, &value)).transpose()
    }

    pub(crate) fn command(&mut self) -> Result<Command, TokenError> {
        match self.take("cmd")? {
            Ipld::String(text) => Ok(text.parse()?),
            _ => Err(TokenError::WrongType("cmd")),
        }
    }

    pub(crate) fn nonce(&mut self) -> Result<Vec<u8>, TokenError> {
        match self.take("nonce")? {
            Ipld::Bytes(nonce) if nonce.len() <= NONCE_BYTES_MAX => Ok(nonce),
            Ipld::Bytes(nonce) => Err(TokenError::NonceTooLong(nonce.len())),
            _ => Err(TokenError::WrongType("nonce")),
        }
    }

    /// A time, or null for never. Leaving it out must not mean never.
    pub(crate) fn time_or_null(&mut self, name: Name) -> Result<Option<u64>, TokenError> {
        match self.take_some(name).ok_or(TokenError::InvalidTime(name))? {
            Ipld::Null => Ok(None),
            value => time(name, &value).map(Some),
        }
    }

    pub(crate) fn time_if_any(&mut self, name: Name) -> Result<Option<u64>, TokenError> {
        self.take_some(name).map(|value| time(name, &value)).transpose()
    }

    pub(crate) fn map(&mut self, name: Name) -> Result<BTreeMap<String, Ipld>, TokenError> {
        match self.take(name)? {
            Ipld::Map(map) => Ok(map),
            _ => Err(TokenError::WrongType(name)),
        }
    }

    pub(crate) fn map_if_any(&mut self, name: Name) -> Result<BTreeMap<String, Ipld>, TokenError> {
        if self.0.contains_key(name) { self.map(name) } else { Ok(BTreeMap::new()) }
    }

    pub(crate) fn links(&mut self, name: Name) -> Result<Vec<Cid>, TokenError> {
        let Ipld::List(list) = self.take(name)? else { return Err(TokenError::WrongType(name)) };
        list.iter().map(|value| link(name, value)).collect()
    }

    pub(crate) fn link_if_any(&mut self, name: Name) -> Result<Option<Cid>, TokenError> {
        self.take_some(name).map(|value| link(name, &value)).transpose()
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), TokenError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(TokenError::UnknownField(cut(&name))),
        }
    }
}

/// What a stranger wrote, as it goes into an error.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

pub(crate) fn principal_value(principal: &NodeId) -> Ipld {
    Ipld::String(principal.to_string())
}

fn principal(field: Name, value: &Ipld) -> Result<NodeId, TokenError> {
    let Ipld::String(text) = value else { return Err(TokenError::WrongType(field)) };
    // The short form without the method is for people.
    let is_did = text.starts_with("did:key:");
    text.parse().ok().filter(|_| is_did).ok_or(TokenError::InvalidKey { field })
}

fn time(field: Name, value: &Ipld) -> Result<u64, TokenError> {
    match value {
        Ipld::Integer(seconds) if (0..=INTEGER_MAX).contains(seconds) => Ok(*seconds as u64),
        _ => Err(TokenError::InvalidTime(field)),
    }
}

fn link(field: Name, value: &Ipld) -> Result<Cid, TokenError> {
    match value {
        Ipld::Link(cid) => Ok(*cid),
        _ => Err(TokenError::WrongType(field)),
    }
}
