//! Reading content to see what of it is good.

use std::sync::Arc;

use super::{
    Blob, Inner, StoreError,
    blob::{Files, read_or_spoil},
    writer::OutboardDraft,
};
use crate::{
    GROUP_BYTES, Geometry, GroupSet, Node, OutboardBuilder, Parent, Walk,
    disk::{File, Name},
    tree::split,
};

/// What is read at once where no tree leads.
const PIECE_BYTES: u64 = 256 * 1024;

/// What [`Store::verify`](super::Store::verify) found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Groups that are good.
    pub good: GroupSet,
    /// Groups that were listed and are not good; they are missing from now on.
    pub struck: GroupSet,
    /// Whether the outboard was corrupt and was made anew.
    pub is_tree_repaired: bool,
}

pub(super) fn verify(
    blob: &Blob,
    inner: &Arc<Inner>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, StoreError> {
    let (digest, geometry, wanted) = (blob.mcid().digest(), blob.geometry(), blob.groups());
    let (files, total) = (blob.files()?, wanted.count());
    let scan = scan(blob.root(), geometry, &files, &wanted, |done| progress(done, total))?;
    if scan.has_bad_parents && total == geometry.groups() {
        let mut tree = OutboardDraft::new(inner);
        if rehash(geometry.size(), &*files.data, |_| {}, |parents| tree.add(parents))? == blob.root() {
            tree.finish(Vec::new())?;
            tree.sync()?;
            let _index = inner.index.lock();
            tree.keep(&Name::Tree(digest))?;
            inner.ledger.lock().replaced(&digest);
            return Ok(Verified { good: wanted, struck: GroupSet::new(), is_tree_repaired: true });
        }
    }
    let struck = wanted.difference(&scan.good);
    inner.strike(digest, &struck);
    Ok(Verified { good: scan.good, struck, is_tree_repaired: false })
}

/// What of the wanted groups can be proved.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) good: GroupSet,
    /// What is below them could not be looked at.
    pub(super) has_bad_parents: bool,
}

/// Walks through the tree, past what is corrupt. `progress` is told how many groups are behind.
pub(super) fn scan(
    root: [u8; 32],
    geometry: Geometry,
    files: &Files,
    wanted: &GroupSet,
    mut progress: impl FnMut(u64),
) -> Result<Scan, StoreError> {
    let mut found = Scan::default();
    let mut walk = Walk::new(root, geometry, wanted.clone());
    let (mut left, total, mut done) = (wanted.clone(), wanted.count(), 0);
    let mut buffer = vec![0; GROUP_BYTES as usize];
    while let Some(node) = walk.node() {
        let behind = match node {
            Node::Parent(index) if walk.accept(&files.parent(index)?).is_ok() => continue,
            Node::Parent(index) => {
                found.has_bad_parents = true;
                below(geometry, index)
            }
            Node::Group(group) => {
                let bytes = &mut buffer[..walk.node_bytes()];
                read_or_spoil(&*files.data, group * GROUP_BYTES, bytes)?;
                if walk.accept(bytes).is_ok() {
                    found.good.insert(&(group..group + 1).into());
                    done += 1;
                    progress(done);
                    continue;
                }
                group..group + 1
            }
        };
        // A walk does not go past what is corrupt: another one begins behind.
        left.remove(&(0..behind.end).into());
        done = total - left.count();
        progress(done);
        walk = Walk::new(root, geometry, left.clone());
    }
    Ok(found)
}

/// The groups below a parent.
fn below(geometry: Geometry, parent: u64) -> std::ops::Range<u64> {
    let mut groups = 0..geometry.groups();
    loop {
        let middle = split(&groups);
        match (parent + 1).cmp(&middle) {
            std::cmp::Ordering::Equal => return groups,
            std::cmp::Ordering::Less => groups.end = middle,
            std::cmp::Ordering::Greater => groups.start = middle,
        }
    }
}

/// Reads all bytes, and gives the root of the tree over them; `parents` is given the tree, `piece` the bytes.
pub(super) fn rehash(
    size: u64,
    data: &dyn File,
    mut piece: impl FnMut(&[u8]),
    mut parents: impl FnMut(Vec<Parent>) -> Result<(), StoreError>,
) -> Result<[u8; 32], StoreError> {
    let mut builder = OutboardBuilder::new();
    let mut buffer = vec![0; PIECE_BYTES.min(size) as usize];
    for begin in (0..size).step_by(PIECE_BYTES as usize) {
        let bytes = &mut buffer[..PIECE_BYTES.min(size - begin) as usize];
        read_or_spoil(data, begin, bytes)?;
        piece(bytes);
        builder.push(bytes);
        parents(builder.take_parents())?;
    }
    let finished = builder.finish();
    parents(finished.parents)?;
    Ok(finished.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_parent_is_what_it_holds_together() {
        let geometry = Geometry::of(7 * GROUP_BYTES);
        let all: Vec<_> = (0..6).map(|parent| below(geometry, parent)).collect();
        assert_eq!(all, [0..2, 0..4, 2..4, 0..7, 4..6, 4..7]);
    }
}
