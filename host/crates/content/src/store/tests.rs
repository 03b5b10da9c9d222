//! The store on a disk that fails: what was acknowledged is there, what is there is true, and nothing is left over.

use std::collections::BTreeMap;

use macula_wire::Digest;

use super::*;
use crate::{
    OutboardBuilder, Parent,
    disk::{Crash, FolderDisk, MemoryDisk},
};

const GROUP: usize = 16 << 10;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| ((at + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn plugin(name: &str) -> Owner {
    let root = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into();
    Owner::Plugin(macula_wire::RealmId::new(&root, &"local.dev".parse().unwrap()), name.parse().unwrap())
}

fn open(disk: &MemoryDisk, config: StoreConfig) -> (Store, Mended) {
    Store::open(Arc::new(disk.clone()), config).expect("the store opens")
}

fn store() -> (MemoryDisk, Store) {
    let disk = MemoryDisk::default();
    let (store, mended) = open(&disk, StoreConfig::default());
    assert_eq!(mended, Mended::default());
    (disk, store)
}

fn read_all(store: &Store, owner: &Owner, content: &Mcid) -> Result<Vec<u8>, StoreError> {
    let blob = store.blob(owner, content, 1)?;
    blob.read(0, usize::MAX >> 1)
}

fn parents_of(bytes: &[u8]) -> Vec<Parent> {
    let mut builder = OutboardBuilder::new();
    builder.push(bytes);
    builder.finish().parents
}

/// Fetches these groups of a content into the store.
fn fetch(store: &Store, owner: &Owner, whole: &[u8], groups: impl IntoIterator<Item = u64>) -> Partial {
    let mut partial = store.partial(owner.clone(), &Mcid::of(whole)).unwrap();
    partial.set_size(whole.len() as u64).unwrap();
    parents_of(whole).iter().for_each(|parent| partial.write_parent(parent).unwrap());
    for group in groups {
        let range = Geometry::of(whole.len() as u64).bytes(group);
        partial.write_group(group, &whole[range.start as usize..range.end as usize]).unwrap();
    }
    partial
}

#[test]
fn what_was_written_is_read() {
    let (_, store) = store();
    for len in [0, 1, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP + 7] {
        let whole = bytes(len as u64, len);
        let content = store.put(Owner::Operator, &whole, 1).unwrap();
        assert_eq!(content, Mcid::of(&whole));
        assert_eq!(read_all(&store, &Owner::Operator, &content).unwrap(), whole);
        let blob = store.blob(&Owner::Operator, &content, 1).unwrap();
        for (offset, wanted) in [(0, 10), (len / 2, 20_000), (len, 5), (len + 5, 5)] {
            let expected = &whole[offset.min(len)..(offset + wanted).min(len)];
            assert_eq!(blob.read(offset as u64, wanted).unwrap(), expected);
        }
        assert_eq!(store.poll_event(), Some(StoreEvent::Complete(content.clone())));
        store.verify(&content, 1, |_| {}).unwrap();
    }
}

#[test]
fn owners_see_their_own_and_the_same_bytes_are_once() {
    let (disk, store) = store();
    let (one, two) = (plugin("one"), plugin("two"));
    let whole = bytes(1, 3 * GROUP);
    let content = store.put(one.clone(), &whole, 1).unwrap();
    let used = store.usage(None);
    assert!(matches!(store.blob(&two, &content, 1), Err(StoreError::NotFound(_))));
    assert!(store.has(&one, &content) && !store.has(&two, &content) && store.has(&Owner::Operator, &content));
    assert_eq!(store.put(two.clone(), &whole, 1).unwrap(), content);
    assert_eq!((store.usage(None), store.usage(Some(&two))), (used, used));
    assert_eq!(disk.list().unwrap().len(), 3, "index, data and tree");
    store.remove(&one, &content).unwrap();
    assert!(!store.has(&one, &content) && store.has(&two, &content));
    store.remove(&two, &content).unwrap();
    assert!(!store.has(&Owner::Operator, &content));
    assert_eq!((store.usage(None), disk.list().unwrap().len()), (0, 1));
    assert!(matches!(store.remove(&two, &content), Err(StoreError::NotFound(_))));
}

#[test]
fn a_fetch_goes_on_where_it_was_made_durable() {
    let (disk, store) = store();
    let whole = bytes(2, 8 * GROUP + 100);
    let content = Mcid::of(&whole);
    let owner = plugin("one");
    let mut partial = fetch(&store, &owner, &whole, [0, 8, 3]);
    partial.checkpoint(5).unwrap();
    assert!(matches!(store.partial(owner.clone(), &content), Err(StoreError::Busy(_))));
    partial.write_group(5, &whole[5 * GROUP..6 * GROUP]).unwrap();
    drop(partial);
    disk.restart(7);
    let (store, mended) = open(&disk, StoreConfig::default());
    assert_eq!(mended, Mended::default());
    let mut partial = store.partial(owner.clone(), &content).unwrap();
    assert_eq!(partial.groups().iter().collect::<Vec<_>>(), [0, 3, 8]);
    assert_eq!(partial.size(), Some(whole.len() as u64));
    // What is here can be read, the rest not.
    let blob = store.blob(&owner, &content, 6).unwrap();
    assert_eq!(blob.read(3 * GROUP as u64, 10).unwrap(), &whole[3 * GROUP..3 * GROUP + 10]);
    assert!(matches!(blob.read(4 * GROUP as u64, 10), Err(StoreError::Incomplete(_))));
    for group in [1, 2, 4, 5, 6] {
        partial.write_group(group, &whole[group as usize * GROUP..][..GROUP]).unwrap();
    }
    assert!(!store.has(&owner, &content));
    partial.write_group(7, &whole[7 * GROUP..8 * GROUP]).unwrap();
    partial.complete(7).unwrap();
    assert_eq!(read_all(&store, &owner, &content).unwrap(), whole);
    assert_eq!(store.poll_event(), Some(StoreEvent::Complete(content)));
}

#[test]
fn sha_256_counts_when_it_is_whole() {
    let (_, store) = store();
    let whole = bytes(3, 2 * GROUP + 9);
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&whole).into();
    let content = Mcid::from(Digest::Sha256(digest));
    let attempt = |bytes: &[u8]| {
        let mut partial = store.partial(Owner::Operator, &content).unwrap();
        partial.set_size(bytes.len() as u64).unwrap();
        partial.write_whole(0, &bytes[..10]).unwrap();
        partial.write_whole(0, &bytes[..20]).unwrap();
        partial.write_whole(20, &bytes[20..]).unwrap();
        partial.checkpoint(1).unwrap();
        partial.complete(1)
    };
    let mut wrong = whole.clone();
    wrong[GROUP] ^= 1;
    assert!(matches!(attempt(&wrong), Err(StoreError::Corrupt(_))));
    assert!(store.stat(&Owner::Operator, &content).is_none());
    assert_eq!(store.usage(None), 0);
    attempt(&whole).unwrap();
    assert_eq!(read_all(&store, &Owner::Operator, &content).unwrap(), whole);
    store.verify(&content, 1, |_| {}).unwrap();
}

/// Goal: a flipped bit is found by whoever reads, is never given out, and costs its group only.
#[test]
fn a_flipped_bit_is_never_given_out() {
    let (disk, store) = store();
    let whole = bytes(4, 6 * GROUP);
    let content = store.put(Owner::Operator, &whole, 1).unwrap();
    store.pin(&Owner::Operator, &content).unwrap();
    disk.flip(&data_name(&content), 2 * GROUP + 5);
    assert!(matches!(read_all(&store, &Owner::Operator, &content), Err(StoreError::Corrupt(_))));
    assert!(!store.has(&Owner::Operator, &content));
    let blob = store.blob(&Owner::Operator, &content, 1).unwrap();
    assert_eq!(blob.read(0, 2 * GROUP).unwrap(), &whole[..2 * GROUP]);
    assert!(matches!(blob.read(2 * GROUP as u64, 1), Err(StoreError::Incomplete(_))));
    drop(blob);
    assert!(matches!(store.pin(&plugin("x"), &content), Err(StoreError::NotFound(_))));
    assert!(matches!(store.pin(&Owner::Operator, &content), Err(StoreError::Incomplete(_))));
    let mut partial = store.partial(Owner::Operator, &content).unwrap();
    partial.write_group(2, &whole[2 * GROUP..3 * GROUP]).unwrap();
    partial.complete(2).unwrap();
    assert_eq!(read_all(&store, &Owner::Operator, &content).unwrap(), whole);
    disk.flip(&data_name(&content), 5);
    disk.flip(&data_name(&content), 5 * GROUP);
    assert!(matches!(store.verify(&content, 3, |_| {}), Err(StoreError::Corrupt(_))));
    let groups = store.stat(&Owner::Operator, &content).unwrap().groups.unwrap();
    assert_eq!(groups.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    disk.flip(&tree_name(&content), 64 * 2);
    assert!(matches!(store.verify(&content, 3, |_| {}), Err(StoreError::Corrupt(_))));
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let each = bytes_for_test(2 * GROUP as u64);
    let config = StoreConfig { bytes_max: 3 * each, plugin_bytes_max: 2 * each };
    let disk = MemoryDisk::default();
    let (store, _) = open(&disk, config.clone());
    let mut contents = Vec::new();
    for seed in 0..3 {
        contents.push(store.put(Owner::Operator, &bytes(seed, 2 * GROUP), seed + 1).unwrap());
    }
    store.pin(&Owner::Operator, &contents[0]).unwrap();
    let reading = store.blob(&Owner::Operator, &contents[1], 9).unwrap();
    while store.poll_event().is_some() {}
    let newest = store.put(Owner::Operator, &bytes(7, 2 * GROUP), 10).unwrap();
    assert_eq!(store.poll_event(), Some(StoreEvent::Gone(contents[2].clone())), "pinned and open ones stay");
    assert!(store.has(&Owner::Operator, &newest));
    drop(reading);
    let last = store.put(Owner::Operator, &bytes(8, 2 * GROUP), 11).unwrap();
    assert!(!store.has(&Owner::Operator, &contents[1]) && store.has(&Owner::Operator, &contents[0]));
    for content in [&newest, &last] {
        store.pin(&Owner::Operator, content).unwrap();
    }
    let refused = store.put(Owner::Operator, &bytes(9, 2 * GROUP), 12).unwrap_err();
    assert!(matches!(&refused, StoreError::QuotaExceeded { whose, .. } if whose == "the node"), "{refused}");
    store.unpin(&Owner::Operator, &last).unwrap();
    let owner = plugin("one");
    store.remove(&Owner::Operator, &newest).unwrap();
    store.put(owner.clone(), &bytes(9, 2 * GROUP), 13).unwrap();
    store.put(owner.clone(), &bytes(10, 2 * GROUP), 14).unwrap();
    let refused = store.put(owner.clone(), &bytes(11, 2 * GROUP), 15).unwrap_err();
    assert!(matches!(&refused, StoreError::QuotaExceeded { whose, .. } if whose.contains("plugin one")), "{refused}");
    assert_eq!(store.usage(None), 3 * each);
    let files = disk.list().unwrap();
    assert!(files.iter().all(|(name, _)| !name.starts_with("draft/")), "{files:?}");
    // What the index says is what the next process sees.
    drop(store);
    let (store, mended) = open(&disk, config);
    assert_eq!((mended, store.usage(None), store.usage(Some(&owner))), (Mended::default(), 3 * each, 2 * each));
}

fn bytes_for_test(size: u64) -> u64 {
    entry::bytes_for(size)
}

#[test]
fn a_full_disk_refuses_and_keeps_what_it_has() {
    let disk = MemoryDisk::default();
    let (store, _) = open(&disk, StoreConfig::default());
    let kept = store.put(Owner::Operator, &bytes(1, 2 * GROUP), 1).unwrap();
    let used: u64 = disk.list().unwrap().iter().map(|(_, bytes)| bytes).sum();
    for room in [0, 100, GROUP as u64, 3 * GROUP as u64] {
        disk.limit(Some(used + room));
        let refused = store.put(Owner::Operator, &bytes(2, 5 * GROUP), 2);
        assert!(matches!(refused, Err(StoreError::DiskFull)), "{room}: {refused:?}");
        let mut partial = store.partial(Owner::Operator, &Mcid::of(&bytes(3, 9 * GROUP))).unwrap();
        assert!(matches!(partial.set_size(9 * GROUP as u64), Err(StoreError::DiskFull)));
        drop(partial);
        disk.limit(None);
        assert_eq!(store.usage(None), bytes_for_test(2 * GROUP as u64), "nothing is counted that is not there");
        store.verify(&kept, 3, |_| {}).unwrap();
        assert!(disk.list().unwrap().iter().all(|(name, _)| !name.starts_with("draft/")));
    }
}

#[test]
fn a_damaged_index_costs_no_content() {
    let (disk, store) = store();
    let (whole, other) = (bytes(1, 4 * GROUP), bytes(2, 5 * GROUP));
    let content = store.put(plugin("one"), &whole, 1).unwrap();
    let mut partial = fetch(&store, &Owner::Operator, &other, [0, 1, 4]);
    partial.checkpoint(1).unwrap();
    drop((partial, store));
    for byte in 0..64 {
        disk.flip("index.redb", byte);
    }
    let (store, mended) = open(&disk, StoreConfig::default());
    assert!(mended.index_was_damaged);
    assert_eq!(read_all(&store, &Owner::Operator, &content).unwrap(), whole);
    let groups = store.stat(&Owner::Operator, &Mcid::of(&other)).unwrap().groups.unwrap();
    assert_eq!(groups.iter().collect::<Vec<_>>(), [0, 1, 4]);
    drop(store);
    let (store, mended) = open(&disk, StoreConfig::default());
    assert_eq!(mended, Mended::default(), "once");
    assert!(store.has(&Owner::Operator, &content));
}

/// Goal: whatever the moment at which the machine stops: what was acknowledged is there and true, nothing is left over, and
/// the books are right. Method: random work from a seed, a crash at a random change, a look at everything after the restart.
#[test]
fn a_crash_at_any_moment_leaves_the_store_valid() {
    for seed in 0..400 {
        crash_once(seed);
    }
}

fn crash_once(seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let disk = MemoryDisk::default();
    let config = StoreConfig { bytes_max: 12 * GROUP as u64, ..StoreConfig::default() };
    let (store, _) = open(&disk, config.clone());
    disk.crash(Crash { after: draw(120), seed });
    // What was acknowledged, and is nobody's to evict.
    let mut pinned: BTreeMap<Mcid, Vec<u8>> = BTreeMap::new();
    let mut checkpointed: Option<(Vec<u8>, GroupSet)> = None;
    for now in 1.. {
        if disk.is_down() || now > 40 {
            break;
        }
        let whole = bytes(draw(6), GROUP * draw(4) as usize + draw(100) as usize);
        match draw(4) {
            0 | 1 => {
                let Ok(content) = store.put(Owner::Operator, &whole, now) else { continue };
                if pinned.len() < 2 && store.pin(&Owner::Operator, &content).is_ok() {
                    pinned.insert(content, whole);
                }
            }
            2 => {
                let Ok(mut partial) = store.partial(Owner::Operator, &Mcid::of(&whole)) else { continue };
                if partial.set_size(whole.len() as u64).is_err() {
                    continue;
                }
                let written = parents_of(&whole).iter().try_for_each(|parent| partial.write_parent(parent));
                let geometry = Geometry::of(whole.len() as u64);
                let written = written.and_then(|()| {
                    (0..=draw(geometry.groups())).filter(|group| *group < geometry.groups()).try_for_each(|group| {
                        let range = geometry.bytes(group);
                        partial.write_group(group, &whole[range.start as usize..range.end as usize])
                    })
                });
                let groups = partial.groups().clone();
                if written.is_ok() && partial.checkpoint(now).is_ok() {
                    checkpointed = Some((whole, groups));
                }
            }
            _ => {
                let list = store.list(&Owner::Operator);
                if let Some(stat) = list.get(draw(list.len().max(1) as u64) as usize) {
                    if pinned.contains_key(&stat.content) {
                        continue;
                    }
                    if checkpointed.as_ref().is_some_and(|(whole, _)| Mcid::of(whole) == stat.content) {
                        checkpointed = None;
                    }
                    let _ = store.remove(&Owner::Operator, &stat.content);
                }
            }
        }
    }
    // What was evicted is not lost.
    checkpointed.take_if(|(whole, _)| store.stat(&Owner::Operator, &Mcid::of(whole)).is_none());
    drop(store);
    disk.restart(seed);
    let (store, mended) = open(&disk, config);
    assert!(!mended.index_was_damaged, "seed {seed}");
    for (content, whole) in &pinned {
        let read = read_all(&store, &Owner::Operator, content);
        assert!(read.as_ref().is_ok_and(|read| read == whole), "seed {seed}: {:?}", read.map(|read| read.len()));
    }
    if let Some((whole, groups)) = &checkpointed {
        let stat = store.stat(&Owner::Operator, &Mcid::of(whole));
        let present =
            stat.map(|stat| stat.groups.unwrap_or_else(|| GroupSet::from(0..Geometry::of(stat.size).groups())));
        assert!(present.is_some_and(|present| present.includes(groups)), "seed {seed}");
    }
    let mut expected = 0;
    for stat in store.list(&Owner::Operator) {
        store.verify(&stat.content, 99, |_| {}).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        expected += bytes_for_test(stat.size);
    }
    assert_eq!(store.usage(None), expected, "seed {seed}");
    let files = disk.list().unwrap();
    assert!(files.iter().all(|(name, _)| !name.starts_with("draft/")), "seed {seed}: {files:?}");
    let on_disk: u64 = files.iter().filter(|(name, _)| name.starts_with("data/")).map(|(_, bytes)| bytes).sum();
    assert_eq!(on_disk, expected, "seed {seed}: {files:?}");
}

/// Goal: the same on a real folder, with more than fits into the pieces that are handed in.
#[test]
fn a_real_folder_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(Arc::new(FolderDisk::new(folder.path()).unwrap()), StoreConfig::default()).unwrap();
    let (store, _) = open();
    let mut writer = store.writer(Owner::Operator).unwrap();
    let piece = bytes(1, 1 << 20);
    for _ in 0..16 {
        writer.write(&piece).unwrap();
    }
    let content = writer.finish(1).unwrap();
    drop(store);
    let (store, mended) = open();
    assert_eq!(mended, Mended::default());
    let blob = store.blob(&Owner::Operator, &content, 2).unwrap();
    for mib in 0..16 {
        assert!(blob.read(mib << 20, 1 << 20).unwrap() == piece);
    }
}
