//! What the index says of one content.

use macula_wire::{Digest, RealmId};
use serde::{Deserialize, Serialize};

use super::Owner;
use crate::{Geometry, GroupSet};

/// Disks give out room in blocks of this size. By counting them, a plugin's quota bounds its contents too: at most
/// 65,536 with the default.
const BLOCK_BYTES: u64 = 4096;

/// Ranges of groups that are kept of content that is not complete: 1 MiB in the index. What is above is fetched again
/// after a restart; a fetch goes from the beginning to the end, so there are few.
const RANGES_KEPT_MAX: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// `None` when the files were lost: only who wants it is known then.
    pub(super) size: Option<u64>,
    /// Groups that are on the disk.
    pub(super) groups: GroupSet,
    /// BLAKE3 of it, also when it is named by SHA-256: there, zeros until all is here.
    pub(super) root: [u8; 32],
    pub(super) holders: Vec<Holder>,
    /// Unix time in milliseconds.
    pub(super) last_use: u64,
}

/// An owner of one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) owner: Owner,
    pub(super) is_pinned: bool,
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(rename = "s")]
    size: Option<u64>,
    #[serde(rename = "g")]
    groups: Vec<u64>,
    #[serde(rename = "b", with = "serde_bytes")]
    root: [u8; 32],
    #[serde(rename = "o")]
    holders: Vec<(Option<RealmId>, String, bool)>,
    #[serde(rename = "u")]
    last_use: u64,
}

impl Record {
    /// Of nothing yet.
    pub(super) fn new(digest: Digest, size: Option<u64>, now: u64) -> Self {
        let root = if let Digest::Blake3(root) = digest { root } else { [0; 32] };
        Self { size, groups: GroupSet::new(), root, holders: Vec::new(), last_use: now }
    }

    pub(super) fn geometry(&self) -> Option<Geometry> {
        self.size.map(Geometry::of)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.geometry().is_some_and(|geometry| self.groups.pairs() == [0, geometry.groups()])
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.holders.iter().any(|holder| holder.is_pinned)
    }

    pub(super) fn holder(&self, owner: &Owner) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.owner == *owner)
    }

    /// Whether `owner` may see it.
    pub(super) fn is_visible(&self, owner: &Owner) -> bool {
        *owner == Owner::Operator || self.holder(owner).is_some()
    }

    /// How many bytes of a quota it takes.
    pub(super) fn charge(&self) -> u64 {
        charge(self.size.unwrap_or(0))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let row = Row {
            size: self.size,
            groups: self.groups.first_ranges(RANGES_KEPT_MAX).pairs().to_vec(),
            root: self.root,
            holders: self.holders.iter().map(Holder::to_row).collect(),
            last_use: self.last_use,
        };
        serde_ipld_dagcbor::to_vec(&row).expect("numbers, bytes and text can be written")
    }

    /// `None` when it is not a record.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let row: Row = serde_ipld_dagcbor::from_slice(bytes).ok()?;
        let groups = GroupSet::from_boundaries(row.groups)?;
        let holders = row.holders.into_iter().map(Holder::from_row).collect::<Option<_>>()?;
        Some(Self { size: row.size, groups, root: row.root, holders, last_use: row.last_use })
    }
}

impl Holder {
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner, is_pinned: false }
    }

    fn to_row(&self) -> (Option<RealmId>, String, bool) {
        match &self.owner {
            Owner::Operator => (None, String::new(), self.is_pinned),
            Owner::Plugin(realm, name) => (Some(*realm), name.to_string(), self.is_pinned),
        }
    }

    fn from_row((realm, name, is_pinned): (Option<RealmId>, String, bool)) -> Option<Self> {
        let owner = match realm {
            None => Owner::Operator,
            Some(realm) => Owner::Plugin(realm, name.parse().ok()?),
        };
        Some(Self { owner, is_pinned })
    }
}

/// How many bytes of a quota content of `size` bytes takes: it and its outboard, in whole blocks.
pub(super) fn charge(size: u64) -> u64 {
    let blocks = |bytes: u64| bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
    blocks(size.max(1)).saturating_add(blocks(Geometry::of(size).outboard_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back() {
        let plugin = Owner::Plugin(RealmId::from_bytes([3; 32]), "files".parse().unwrap());
        let record = Record {
            size: Some(70_000),
            groups: [0..1, 3..4].into_iter().collect(),
            root: [7; 32],
            holders: vec![Holder::new(Owner::Operator), Holder { owner: plugin, is_pinned: true }],
            last_use: 12,
        };
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Some(record));
        for cut in 0..bytes.len() {
            assert_eq!(Record::from_bytes(&bytes[..cut]), None);
        }
        assert_eq!([charge(0), charge(1), charge(16_384), charge(16_385)], [4096, 4096, 16_384, 24_576]);
    }
}
