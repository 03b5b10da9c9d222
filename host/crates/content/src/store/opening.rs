//! Opening a store: what a crash or a failing disk has left is put in order before anybody sees it.
//!
//! 1. Drafts are removed.
//! 2. The index is read. When it is damaged it is set aside; then, or when there is none, a new one is made from the
//!    content that is there, as far as it can be proved. Who owned it is not known any longer: it is the operator's.
//! 3. Records whose files are not there, or of another length, lose their groups; who wanted them stays known.
//! 4. Files that no record wants are removed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use macula_wire::{Digest, Mcid};

use super::{
    Owner, StoreError,
    blob::Files,
    index::{Index, IndexError},
    record::{Holder, Record},
    scan::{rehash, scan},
};
use crate::{
    Geometry, GroupSet, PARENT_BYTES, WHOLE_BYTES_MAX, WholeHash,
    disk::{Disk, File, Name},
};

/// Damaged indices that are kept, the newest, for somebody to look at.
const DAMAGED_KEPT_MAX: usize = 3;

/// Content of which the outboard is corrupt is hashed again if it is not larger: 1 GiB, some seconds. Of larger content
/// what the outboard proves is kept.
const REHASHED_BYTES_MAX: u64 = 1 << 30;

/// What was found when a store was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The index was damaged, and is under this name in the store's folder now.
    pub set_aside: Option<String>,
    /// The index was made anew from so many contents; `None` when that was not necessary.
    pub rebuilt: Option<usize>,
    /// Contents whose files were not as they should be; what is left of them is listed.
    pub damaged: Vec<Mcid>,
    /// Drafts of a process that was killed.
    pub drafts_removed: usize,
    /// Files of content that nobody was told about.
    pub strays_removed: usize,
}

/// The sizes of the files of one content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sizes {
    data: Option<u64>,
    tree: Option<u64>,
}

type Records = Vec<(Digest, Record)>;

pub(super) fn open(disk: &Arc<dyn Disk>) -> Result<(Index, Records, Opened), StoreError> {
    let mut opened = Opened::default();
    let files = disk.list()?;
    for (name, _) in files.iter().filter(|(name, _)| matches!(name, Name::Draft(_))) {
        disk.remove(name)?;
        opened.drafts_removed += 1;
    }
    let mut contents = HashMap::<Digest, Sizes>::new();
    for (name, size) in &files {
        match name {
            Name::Data(digest) => contents.entry(*digest).or_default().data = Some(*size),
            Name::Tree(digest) => contents.entry(*digest).or_default().tree = Some(*size),
            _ => {}
        }
    }
    let has_index = files.iter().any(|(name, _)| *name == Name::Index);
    let loaded = if has_index { Index::open(Arc::clone(disk)).map(Some) } else { Ok(None) };
    let (mut index, mut records) = match loaded {
        Ok(Some(loaded)) => loaded,
        Err(IndexError::Store(error)) => return Err(error),
        Ok(None) => rebuild(disk, &contents, &mut opened)?,
        Err(IndexError::Damaged) => {
            opened.set_aside = Some(set_aside(disk, &files)?);
            rebuild(disk, &contents, &mut opened)?
        }
    };
    reconcile(&mut index, &mut records, &contents, &mut opened)?;
    let wanted: HashSet<_> =
        records.iter().filter(|(_, record)| record.size.is_some()).map(|(digest, _)| *digest).collect();
    for (name, _) in &files {
        if let Name::Data(digest) | Name::Tree(digest) = name
            && !wanted.contains(digest)
        {
            disk.remove(name)?;
            opened.strays_removed += 1;
        }
    }
    Ok((index, records, opened))
}

/// Gives a damaged index another name, and removes older ones.
fn set_aside(disk: &Arc<dyn Disk>, files: &[(Name, u64)]) -> Result<String, StoreError> {
    let number = |(name, _): &(Name, u64)| if let Name::DamagedIndex(number) = name { Some(*number) } else { None };
    let mut numbers: Vec<_> = files.iter().filter_map(number).collect();
    numbers.sort_unstable();
    let name = Name::DamagedIndex(numbers.last().map_or(0, |last| last.saturating_add(1)));
    disk.rename(&Name::Index, &name)?;
    for old in numbers.iter().rev().skip(DAMAGED_KEPT_MAX - 1) {
        disk.remove(&Name::DamagedIndex(*old))?;
    }
    Ok(name.to_string())
}

/// An index of what can be proved.
fn rebuild(
    disk: &Arc<dyn Disk>,
    contents: &HashMap<Digest, Sizes>,
    opened: &mut Opened,
) -> Result<(Index, Records), StoreError> {
    let mut records = Vec::new();
    for (digest, sizes) in contents {
        if let Some(record) = proved(disk, *digest, *sizes)? {
            records.push((*digest, record));
        }
    }
    let rows: Vec<_> = records.iter().map(|(digest, record)| (*digest, Some(record.to_bytes()))).collect();
    let index = Index::create(Arc::clone(disk), &Name::Draft(0), &rows)?;
    opened.rebuilt = (opened.set_aside.is_some() || !contents.is_empty()).then_some(records.len());
    Ok((index, records))
}

/// What the files of a content prove; `None` when that is nothing.
fn proved(disk: &Arc<dyn Disk>, digest: Digest, sizes: Sizes) -> Result<Option<Record>, StoreError> {
    let Some(size) = sizes.data else { return Ok(None) };
    let geometry = Geometry::of(size);
    let mut record = Record::new(digest, Some(size), 0);
    record.holders.push(Holder::new(Owner::Operator));
    let data = disk.open(&Name::Data(digest))?;
    match digest {
        Digest::Blake3(root) => {
            let has_tree = sizes.tree.is_some() || geometry.parents() == 0;
            let mut has_bad_parents = !has_tree;
            if has_tree {
                let files = Files::open_named(&**disk, digest, geometry, 0)?;
                let scan = scan(root, geometry, &files, &(0..geometry.groups()).into(), |_| {})?;
                (record.groups, has_bad_parents) = (scan.good, scan.has_bad_parents);
            }
            // Holes have parents of zeros, so this may well be a part: then it was in vain.
            if has_bad_parents && size <= REHASHED_BYTES_MAX && rehash(size, &*data, |_| {}, |_| Ok(()))? == root {
                make_tree(disk, digest, size, &*data)?;
                record.groups = (0..geometry.groups()).into();
            }
            // The last group is what proves the size.
            Ok(record.groups.contains(geometry.last_group()).then_some(record))
        }
        Digest::Sha256(expected) if size <= WHOLE_BYTES_MAX => {
            let mut hash = WholeHash::new();
            let push = |piece: &[u8]| hash.push(piece).expect("its size was compared");
            record.root = rehash(size, &*data, push, |_| Ok(()))?;
            if hash.verify(&expected).is_err() {
                return Ok(None);
            }
            make_tree(disk, digest, size, &*data)?;
            record.groups = (0..geometry.groups()).into();
            Ok(Some(record))
        }
        Digest::Sha256(_) => Ok(None),
    }
}

fn make_tree(disk: &Arc<dyn Disk>, digest: Digest, size: u64, data: &dyn File) -> Result<(), StoreError> {
    if Geometry::of(size).parents() == 0 {
        return Ok(());
    }
    let tree = disk.create(&Name::Draft(0))?;
    let write = |parents: Vec<crate::Parent>| {
        for parent in parents {
            tree.write_at(parent.index * PARENT_BYTES, &parent.pair)?;
        }
        Ok(())
    };
    rehash(size, data, |_| {}, write)?;
    tree.sync()?;
    Ok(disk.rename(&Name::Draft(0), &Name::Tree(digest))?)
}

/// Takes the groups from records whose files are others than they say.
fn reconcile(
    index: &mut Index,
    records: &mut Records,
    contents: &HashMap<Digest, Sizes>,
    opened: &mut Opened,
) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for (digest, record) in records.iter_mut() {
        let Some(geometry) = record.geometry() else { continue };
        let there = contents.get(digest).copied().unwrap_or_default();
        let has_tree = geometry.parents() == 0 || there.tree == Some(geometry.outboard_bytes());
        if there.data != Some(geometry.size()) || !has_tree {
            (record.size, record.groups) = (None, GroupSet::new());
            rows.push((*digest, Some(record.to_bytes())));
            opened.damaged.push((*digest).into());
        }
    }
    index.write(&rows)
}
