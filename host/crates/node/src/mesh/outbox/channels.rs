//! Channels of this node's: numbers for names, used again when all are taken.

use std::sync::Arc;

use bytes::Bytes;
use macula_auth::Permissions;
use macula_wire::{
    Channel, ChannelKind, ContentType, Fault, NodeId, Operation, PluginName, Topic, limits::CHANNELS_PER_LINK_MAX,
};
use rustc_hash::FxHashMap;

use super::{NoRoom, REALM_SLOT};

/// Names a channel of this node's, for as long as its table slot is not used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mesh) struct ChannelKey {
    pub(super) number: u32,
    pub(super) generation: u32,
}

/// A channel's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::mesh) struct ChannelName {
    pub(in crate::mesh) kind: ChannelKind,
    pub(in crate::mesh) name: Topic,
    pub(in crate::mesh) plugin: PluginName,
    pub(in crate::mesh) content_type: ContentType,
}

#[derive(Debug)]
pub(super) struct Channels {
    pub(super) sender: NodeId,
    pub(super) by_name: FxHashMap<ChannelName, ChannelKey>,
    pub(super) slots: Vec<Slot>,
    /// The next slot to be used again once all are taken.
    pub(super) hand: usize,
    pub(super) permissions: Arc<Permissions>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: ChannelName,
    pub(super) generation: u32,
    pub(super) declaration: Bytes,
    /// Whether this node has the right to send on it.
    pub(super) is_allowed: bool,
}

impl Channels {
    pub(super) fn key(&mut self, name: &ChannelName, epoch: u64) -> ChannelKey {
        if let Some(key) = self.by_name.get(name) {
            return *key;
        }
        let declaration = Channel {
            kind: name.kind,
            realm_slot: REALM_SLOT,
            name: name.name.clone(),
            sender: self.sender,
            epoch,
            plugin: name.plugin.clone(),
            content_type: name.content_type.clone(),
        };
        let declaration = Bytes::from(declaration.to_bytes());
        let is_allowed = name.is_allowed(&self.permissions);
        let key = if self.slots.len() < CHANNELS_PER_LINK_MAX {
            self.slots.push(Slot { name: name.clone(), generation: 1, declaration, is_allowed });
            ChannelKey { number: (self.slots.len() - 1) as u32, generation: 1 }
        } else {
            // One after another: a channel in steady use is declared again at its next message, which is cheap.
            let number = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let generation = self.slots[number].generation + 1;
            let slot = Slot { name: name.clone(), generation, declaration, is_allowed };
            let before = std::mem::replace(&mut self.slots[number], slot);
            self.by_name.remove(&before.name);
            ChannelKey { number: number as u32, generation }
        };
        self.by_name.insert(name.clone(), key);
        key
    }

    pub(super) fn set_permissions(&mut self, permissions: Arc<Permissions>) {
        for slot in &mut self.slots {
            slot.is_allowed = slot.name.is_allowed(&permissions);
        }
        self.permissions = permissions;
    }

    pub(super) fn is_current(&self, key: ChannelKey) -> bool {
        self.slots.get(key.number as usize).is_some_and(|slot| slot.generation == key.generation)
    }
}

impl ChannelName {
    /// What sending on it is.
    pub(in crate::mesh) fn operation(&self) -> Operation {
        match self.kind {
            ChannelKind::Topic => Operation::Publish,
            ChannelKind::Procedure => Operation::Call,
        }
    }

    fn is_allowed(&self, permissions: &Permissions) -> bool {
        permissions.allows(self.operation(), &self.name)
    }

    /// Why something was not sent on it.
    pub(in crate::mesh) fn fault(&self, reason: NoRoom) -> Fault {
        match reason {
            NoRoom::Denied => Fault::Denied(format!("{} {}", self.operation(), self.name)),
            other => other.into(),
        }
    }
}
