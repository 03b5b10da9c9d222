//! What each part of the API promises. Crashes are in `crash`.

mod crash;

use std::collections::BTreeMap;

use macula_wire::RealmId;

use super::*;
use crate::{
    Encoder, GROUP_BYTES, Geometry, Node, Parent, WHOLE_BYTES_MAX,
    disk::{Faults, FaultyDisk, FolderDisk, MemoryDisk},
    tests::content,
};

const OPERATOR: &Owner = &Owner::Operator;

fn plugin(name: &str) -> Owner {
    Owner::Plugin(RealmId::from_bytes([7; 32]), name.parse().unwrap())
}

fn open(disk: impl Disk) -> Store {
    Store::open(disk, StoreConfig::default()).unwrap().0
}

/// Different content for different seeds.
fn bytes_of(seed: u64, size: u64) -> Vec<u8> {
    let mut bytes = content(size + seed % 64);
    bytes.drain(..(seed % 64) as usize);
    if let Some(begin) = bytes.first_chunk_mut::<8>() {
        *begin = seed.to_le_bytes();
    }
    bytes
}

/// Content with its outboard, to send.
struct Sent {
    mcid: Mcid,
    bytes: Vec<u8>,
    parents: BTreeMap<u64, Parent>,
}

impl Sent {
    fn new(bytes: Vec<u8>) -> Self {
        let mut builder = crate::OutboardBuilder::new();
        builder.push(&bytes);
        let finished = builder.finish();
        let mcid = finished.mcid();
        Self { mcid, bytes, parents: finished.parents.into_iter().map(|parent| (parent.index, parent)).collect() }
    }

    fn geometry(&self) -> Geometry {
        Geometry::of(self.bytes.len() as u64)
    }

    fn group(&self, group: u64) -> &[u8] {
        let range = self.geometry().bytes(group);
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// Writes a group as a fetch does: what leads there first.
    fn write(&self, partial: &Partial, group: u64) -> Result<(), StoreError> {
        let Digest::Blake3(root) = self.mcid.digest() else { unreachable!("made by BLAKE3") };
        let mut walk = crate::Walk::new(root, self.geometry(), (group..group + 1).into());
        while let Some(Node::Parent(index)) = walk.node() {
            walk.accept(&self.parents[&index].pair).unwrap();
            partial.write_parent(&self.parents[&index])?;
        }
        partial.write_group(group, self.group(group))
    }
}

fn events(store: &Store) -> Vec<StoreEvent> {
    std::iter::from_fn(|| store.poll_event()).collect()
}

#[test]
fn stored_and_read_back_over_a_restart() {
    let disk = MemoryDisk::new();
    let store = open(disk.clone());
    let sizes = [0, 1, 16_384, 16_385, 100_000, 700_000];
    for size in sizes {
        let bytes = content(size);
        let mut writer = store.writer(OPERATOR).unwrap();
        for piece in bytes.chunks(70_000) {
            writer.write(piece).unwrap();
        }
        assert_eq!(writer.finish(1).unwrap(), Mcid::of(&bytes));
    }
    assert_eq!(events(&store).len(), sizes.len());
    drop(store);
    let (store, opened) = Store::open(disk, StoreConfig::default()).unwrap();
    assert_eq!(opened, Opened::default());
    for size in sizes {
        let bytes = content(size);
        let blob = store.open_blob(OPERATOR, &Mcid::of(&bytes), 2).unwrap();
        assert_eq!(blob.read(0, 1 << 20).unwrap(), bytes);
        for (offset, len) in [(0, 5), (3, 20_000), (16_380, 10), (99_999, 7), (16_384, 16_384), (u64::MAX, 3)] {
            let range = (offset.min(size) as usize)..(offset.saturating_add(len).min(size) as usize);
            assert_eq!(blob.read(offset, len as usize).unwrap(), bytes[range], "{len} from {offset} of {size}");
        }
    }
    assert_eq!(store.usage().reserved_bytes, 0);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let disk = MemoryDisk::new();
    let store = open(disk.clone());
    let files = || disk.list().unwrap().len();
    let before = files();
    let mut writer = store.writer(&plugin("a")).unwrap();
    writer.write(&content(400_000)).unwrap();
    assert!(store.usage().reserved_bytes >= 400_000);
    drop(writer);
    assert_eq!((files(), store.usage().reserved_bytes), (before, 0));
    assert_eq!(store.usage().owners, []);
}

#[test]
fn the_same_bytes_are_stored_once_and_seen_by_who_stored_them() {
    let store = open(MemoryDisk::new());
    let (a, b) = (plugin("a"), plugin("b"));
    let bytes = content(50_000);
    let mcid = store.put(&a, &bytes, 1).unwrap();
    assert!(store.has(&a, &mcid) && store.has(OPERATOR, &mcid) && !store.has(&b, &mcid));
    assert!(matches!(store.open_blob(&b, &mcid, 1), Err(StoreError::NotFound)));
    assert!(matches!(store.pin(&b, &mcid), Err(StoreError::NotFound)));
    let mut writer = store.writer(&b).unwrap();
    writer.write(&bytes).unwrap();
    assert_eq!(writer.finish(2).unwrap(), mcid);
    assert!(store.has(&b, &mcid));
    let usage = store.usage();
    assert_eq!((usage.contents, usage.bytes, usage.owners.len()), (1, record::charge(50_000), 2));
    store.remove(&a, &mcid).unwrap();
    assert!(!store.has(&a, &mcid) && store.has(&b, &mcid));
    assert!(matches!(store.remove(&a, &mcid), Err(StoreError::NotFound)));
    store.adopt(&a, &mcid, 3).unwrap();
    assert_eq!(store.list(Some(&a)).len(), 1);
    store.remove(OPERATOR, &mcid).unwrap();
    assert!(store.stat(&mcid).is_none());
    assert_eq!(events(&store), [StoreEvent::Stored(mcid.clone()), StoreEvent::Gone(mcid)]);
}

#[test]
fn owners_are_bounded_and_a_disk_that_is_nearly_full_is_full() {
    let disk = FaultyDisk::default();
    let store = open(disk.clone());
    let mcid = store.put(OPERATOR, b"some", 1).unwrap();
    for number in 1..OWNERS_MAX {
        store.adopt(&plugin(&number.to_string()), &mcid, 1).unwrap();
    }
    let further = store.adopt(&plugin("further"), &mcid, 1);
    assert!(matches!(further, Err(StoreError::QuotaExceeded { whose: Quota::Owners })));
    disk.set_faults(Faults { free_bytes: Some(FREE_BYTES_MIN + 8191), ..Faults::default() });
    let full = store.put(OPERATOR, &content(4097), 1).unwrap_err();
    assert!(matches!(full, StoreError::DiskFull));
    assert!(full.to_string().contains("16 MiB of it are kept free"), "{full}");
    store.put(OPERATOR, b"other", 1).unwrap();
    let partial = store.partial(OPERATOR, &Mcid::of(b"elsewhere"), 1).unwrap();
    assert!(matches!(partial.set_size(8192, 1), Err(StoreError::DiskFull)));
    assert_eq!((partial.size(), store.usage().contents), (None, 2));
}

/// Goal: what was used longest ago goes first, and neither what is pinned nor what is open.
#[test]
fn the_longest_unused_goes_first() {
    let config = StoreConfig { bytes_max: 5 * 16_384, plugin_bytes_max: u64::MAX };
    let (store, _) = Store::open(MemoryDisk::new(), config).unwrap();
    let put = |seed, now| store.put(OPERATOR, &bytes_of(seed, 16_384), now);
    let ids: Vec<_> = (0..5).map(|seed| put(seed, seed).unwrap()).collect();
    let here = || ids.iter().map(|mcid| store.has(OPERATOR, mcid)).collect::<Vec<_>>();
    store.pin(OPERATOR, &ids[0]).unwrap();
    let blob = store.open_blob(OPERATOR, &ids[1], 0).unwrap();
    drop(store.open_blob(OPERATOR, &ids[2], 9).unwrap());
    put(10, 10).unwrap();
    assert_eq!(here(), [true, true, true, false, true]);
    put(11, 11).unwrap();
    assert_eq!(here(), [true, true, true, false, false]);
    put(12, 12).unwrap();
    assert_eq!(here(), [true, true, false, false, false], "its use counted, until it was the longest ago");
    drop(blob);
    store.unpin(OPERATOR, &ids[0]).unwrap();
    put(13, 13).unwrap();
    put(14, 14).unwrap();
    assert_eq!(here(), [false; 5]);
    for stat in store.list(None) {
        store.pin(OPERATOR, &stat.mcid).unwrap();
    }
    assert!(matches!(put(15, 15), Err(StoreError::QuotaExceeded { whose: Quota::Node })));
    assert_eq!(store.usage().reserved_bytes, 0);
    let gone = events(&store).iter().filter(|event| matches!(event, StoreEvent::Gone(_))).count();
    assert_eq!(gone, 5);
}

#[test]
fn a_plugin_that_is_full_loses_its_own_only() {
    let config = StoreConfig { bytes_max: u64::MAX, plugin_bytes_max: 3 * 16_384 };
    let (store, _) = Store::open(MemoryDisk::new(), config).unwrap();
    let (a, b) = (plugin("a"), plugin("b"));
    let shared = store.put(&a, &bytes_of(1, 16_384), 1).unwrap();
    store.adopt(&b, &shared, 1).unwrap();
    let others = store.put(&b, &bytes_of(2, 16_384), 1).unwrap();
    for seed in 3..6 {
        store.put(&a, &bytes_of(seed, 16_384), seed).unwrap();
    }
    assert!(!store.has(&a, &shared) && store.has(&b, &shared) && store.has(&b, &others));
    let own: Vec<_> = store.list(Some(&a)).into_iter().map(|stat| stat.mcid).collect();
    assert_eq!(own.len(), 3);
    for mcid in &own {
        store.pin(&a, mcid).unwrap();
    }
    let full = store.put(&a, &bytes_of(9, 1), 9);
    assert!(matches!(full, Err(StoreError::QuotaExceeded { whose: Quota::Owner })));
    assert!(matches!(store.adopt(&a, &others, 9), Err(StoreError::QuotaExceeded { whose: Quota::Owner })));
    store.unpin(&a, &own[0]).unwrap();
    store.put(&a, &bytes_of(9, 1), 9).unwrap();
    assert!(store.stat(&own[0]).is_none(), "nobody else wanted it");
}

#[test]
fn parts_come_in_and_go_on_after_a_restart() {
    let disk = MemoryDisk::new();
    let store = open(disk.clone());
    let a = plugin("a");
    let sent = Sent::new(content(9 * GROUP_BYTES + 5));
    let size = sent.bytes.len() as u64;
    let partial = store.partial(&a, &sent.mcid, 1).unwrap();
    assert!(matches!(store.partial(OPERATOR, &sent.mcid, 1), Err(StoreError::Busy)));
    assert_eq!(partial.size(), None);
    assert!(matches!(sent.write(&partial, 3), Err(StoreError::Misuse(Misuse::SizeUnknown))));
    partial.set_size(size, 1).unwrap();
    partial.set_size(size, 1).unwrap();
    assert!(matches!(partial.set_size(7, 1), Err(StoreError::Misuse(Misuse::OtherSize))));
    sent.write(&partial, 9).unwrap();
    sent.write(&partial, 2).unwrap();
    let blob = store.open_blob(&a, &sent.mcid, 1).unwrap();
    assert_eq!(blob.read(2 * GROUP_BYTES, 100).unwrap(), sent.group(2)[..100], "before it is durable");
    assert!(matches!(blob.read(2 * GROUP_BYTES, 20_000), Err(StoreError::Missing { group: 3 })));
    partial.checkpoint(1).unwrap();
    sent.write(&partial, 4).unwrap();
    assert_eq!(partial.groups().pairs(), [2, 3, 4, 5, 9, 10]);
    assert!(matches!(partial.complete(1), Err(StoreError::Incomplete)));
    sent.write(&partial, 5).unwrap();
    drop(partial);
    assert_eq!(blob.groups().pairs(), [2, 3, 4, 5, 9, 10], "the last was not durable");
    assert!(!store.has(&a, &sent.mcid));
    assert!(store.provided().eq([sent.mcid.clone()]));
    drop((blob, store));
    let store = open(disk);
    let partial = store.partial(&a, &sent.mcid, 2).unwrap();
    assert_eq!((partial.size(), partial.groups().count()), (Some(size), 3));
    for group in 0..10 {
        sent.write(&partial, group).unwrap();
    }
    partial.complete(2).unwrap();
    assert_eq!(events(&store), [StoreEvent::Stored(sent.mcid.clone())]);
    assert_eq!(store.open_blob(&a, &sent.mcid, 2).unwrap().read(0, 1 << 20).unwrap(), sent.bytes);
}

#[test]
fn who_stores_it_while_it_is_fetched_is_first() {
    let disk = FaultyDisk::default();
    let store = open(disk.clone());
    let sent = Sent::new(content(5 * GROUP_BYTES));
    let partial = store.partial(OPERATOR, &sent.mcid, 1).unwrap();
    partial.set_size(sent.bytes.len() as u64, 1).unwrap();
    sent.write(&partial, 4).unwrap();
    let blob = store.open_blob(OPERATOR, &sent.mcid, 1).unwrap();
    blob.read(4 * GROUP_BYTES, 10).unwrap();
    store.put(&plugin("a"), &sent.bytes, 2).unwrap();
    assert_eq!(blob.read(0, 1 << 20).unwrap(), sent.bytes, "from the new files");
    sent.write(&partial, 1).unwrap();
    partial.checkpoint(3).unwrap();
    partial.complete(3).unwrap();
    disk.flip(&Name::Data(sent.mcid.digest()), 2 * 8 * GROUP_BYTES);
    assert!(matches!(blob.read(0, 1 << 20), Err(StoreError::Corrupt { group: 2 })));
    sent.write(&partial, 2).unwrap();
    partial.complete(3).unwrap();
    assert_eq!(blob.read(0, 1 << 20).unwrap(), sent.bytes, "healed in the new files");
    assert_eq!(store.usage().contents, 1);
}

#[test]
fn wholes_are_nothing_before_they_are_verified() {
    use sha2::{Digest as _, Sha256};
    let disk = MemoryDisk::new();
    let store = open(disk.clone());
    let bytes = content(100_000);
    let mcid = Mcid::from(Digest::Sha256(Sha256::digest(&bytes).into()));
    let partial = store.partial(OPERATOR, &mcid, 1).unwrap();
    assert!(matches!(partial.set_size(WHOLE_BYTES_MAX + 1, 1), Err(StoreError::TooLarge { .. })));
    partial.set_size(100_000, 1).unwrap();
    assert!(matches!(partial.write_whole(99_999, b"ab"), Err(StoreError::Misuse(Misuse::NoSuchNode))));
    assert!(matches!(partial.write_group(0, b"ab"), Err(StoreError::Misuse(Misuse::OtherHash))));
    partial.write_whole(0, &bytes[..60_000]).unwrap();
    assert!(matches!(partial.complete(1), Err(StoreError::Incomplete)));
    partial.write_whole(60_000, &vec![0; 40_000]).unwrap();
    assert!(matches!(partial.complete(1), Err(StoreError::CorruptWhole)));
    assert!(!store.has(OPERATOR, &mcid));
    assert_eq!(store.usage().reserved_bytes, 0);
    partial.set_size(100_000, 2).unwrap();
    partial.write_whole(60_000, &bytes[60_000..]).unwrap();
    partial.write_whole(0, &bytes[..60_000]).unwrap();
    partial.complete(2).unwrap();
    drop((partial, store));
    let store = open(disk);
    assert_eq!(store.open_blob(OPERATOR, &mcid, 3).unwrap().read(0, 1 << 20).unwrap(), bytes);
}

/// Goal: a flipped bit anywhere is found, and never given out; what is fetched again heals it.
#[test]
fn flipped_bits_are_never_returned() {
    let disk = FaultyDisk::default();
    let store = open(disk.clone());
    let sent = Sent::new(content(6 * GROUP_BYTES + 100));
    let digest = sent.mcid.digest();
    store.put(OPERATOR, &sent.bytes, 1).unwrap();
    let names = [(Name::Data(digest), 997_u64), (Name::Tree(digest), 13)];
    for (name, step) in names {
        let bits = disk.bytes(&name).unwrap().len() as u64 * 8;
        for bit in (0..bits).step_by(step as usize * 8 + 1) {
            disk.flip(&name, bit);
            let blob = store.open_blob(OPERATOR, &sent.mcid, 2).unwrap();
            let mut lost = Vec::new();
            for group in 0..7 {
                match blob.read(group * GROUP_BYTES, 16_384) {
                    Ok(bytes) => assert_eq!(bytes, sent.group(group)),
                    Err(StoreError::Corrupt { group: found }) => lost.push(found),
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(!lost.is_empty(), "bit {bit} of {name}");
            assert!(!store.has(OPERATOR, &sent.mcid));
            assert!(matches!(blob.read_raw(lost[0]), Err(StoreError::Missing { .. })));
            let partial = store.partial(OPERATOR, &sent.mcid, 2).unwrap();
            assert_eq!(partial.groups().count(), 7 - lost.len() as u64);
            for group in lost {
                sent.write(&partial, group).unwrap();
            }
            partial.complete(2).unwrap();
            let told = events(&store);
            assert!(told.contains(&StoreEvent::Damaged(sent.mcid.clone())), "{told:?}");
            assert_eq!(blob.read(0, 1 << 20).unwrap(), sent.bytes);
        }
    }
}

#[test]
fn verify_strikes_what_is_corrupt_and_repairs_the_tree() {
    let disk = FaultyDisk::default();
    let store = open(disk.clone());
    let bytes = content(6 * GROUP_BYTES + 100);
    let mcid = store.put(OPERATOR, &bytes, 1).unwrap();
    let mut last = (0, 0);
    assert!(store.verify(&mcid, 2, |done, total| last = (done, total)).unwrap().struck.is_empty());
    assert_eq!(last, (7, 7));
    disk.flip(&Name::Tree(mcid.digest()), 64 * 8 * 3 + 5);
    let verified = store.verify(&mcid, 2, |_, _| {}).unwrap();
    assert!(verified.is_tree_repaired && verified.struck.is_empty() && store.has(OPERATOR, &mcid));
    assert_eq!(store.verify(&mcid, 2, |_, _| {}).unwrap().good.count(), 7);
    disk.flip(&Name::Data(mcid.digest()), 2 * GROUP_BYTES * 8);
    assert_eq!(store.verify(&mcid, 2, |_, _| {}).unwrap().struck.pairs(), [2, 3]);
    assert!(!store.has(OPERATOR, &mcid));
}

/// What is sent to others is read raw, and verified by the encoder, which says what is corrupt.
#[test]
fn an_encoder_is_served() {
    let disk = FaultyDisk::default();
    let store = open(disk.clone());
    let mcid = store.put(OPERATOR, &content(5 * GROUP_BYTES), 1).unwrap();
    let blob = store.open_blob(OPERATOR, &mcid, 1).unwrap();
    let encode = || {
        let mut encoder = Encoder::new(blob.root(), Geometry::of(blob.size()), blob.groups());
        let mut out = Vec::new();
        while let Some(node) = encoder.node() {
            let supplied = match node {
                Node::Parent(index) => encoder.supply(&blob.parent_raw(index).unwrap(), &mut out),
                Node::Group(group) => encoder.supply(&blob.read_raw(group).unwrap(), &mut out),
            };
            if supplied.is_err() {
                blob.strike(node);
                return Err(node);
            }
        }
        Ok(out.len() as u64)
    };
    assert_eq!(encode(), Ok(5 * GROUP_BYTES + 4 * 64));
    assert!(blob.parent_raw(4).is_err() && blob.read_raw(5).is_err());
    disk.flip(&Name::Data(mcid.digest()), 3 * GROUP_BYTES * 8);
    assert_eq!(encode(), Err(Node::Group(3)));
    assert_eq!(encode(), Ok(4 * GROUP_BYTES + 4 * 64));
}

#[test]
fn unused_parts_are_collected() {
    let store = open(MemoryDisk::new());
    let sent = Sent::new(content(5 * GROUP_BYTES));
    let partial = store.partial(OPERATOR, &sent.mcid, 1).unwrap();
    partial.set_size(5 * GROUP_BYTES, 1).unwrap();
    let complete = store.put(OPERATOR, b"complete", 1).unwrap();
    let later = 2 + PARTIAL_UNUSED_MS_MAX;
    assert_eq!(store.gc(later).unwrap(), Collected::default(), "it is being fetched");
    drop(partial);
    assert_eq!(store.gc(later - 1).unwrap(), Collected::default(), "not yet");
    assert_eq!(store.gc(later).unwrap(), Collected { contents: 1, bytes: record::charge(5 * GROUP_BYTES) });
    assert!(store.has(OPERATOR, &complete));
}

/// Goal: an index that is damaged anywhere is made anew, and nothing is given out that is not true.
#[test]
fn a_damaged_index_is_made_anew() {
    let whole = Sent::new(content(3 * GROUP_BYTES + 1));
    let part = Sent::new(content(5 * GROUP_BYTES + 1));
    let disk = FaultyDisk::default();
    let store = open(disk.clone());
    store.put(&plugin("a"), &whole.bytes, 1).unwrap();
    let partial = store.partial(OPERATOR, &part.mcid, 1).unwrap();
    partial.set_size(part.bytes.len() as u64, 1).unwrap();
    for group in [1, 5] {
        part.write(&partial, group).unwrap();
    }
    partial.checkpoint(1).unwrap();
    drop((partial, store));
    let index = disk.open(&Name::Index).unwrap();
    let len = index.len().unwrap();
    index.write_at(0, b"not an index at all").unwrap();
    let (store, opened) = Store::open(disk.clone(), StoreConfig::default()).unwrap();
    assert_eq!((opened.set_aside.as_deref(), opened.rebuilt), (Some("index.redb.damaged-0"), Some(2)));
    assert!(store.has(OPERATOR, &whole.mcid) && !store.has(&plugin("a"), &whole.mcid));
    assert_eq!(store.stat(&part.mcid).unwrap().groups.pairs(), [1, 2, 5, 6]);
    drop(store);
    for round in 0..60_u64 {
        let index = disk.open(&Name::Index).unwrap();
        match round % 3 {
            0 => index.set_len(len * round / 60).unwrap(),
            1 => index.write_at(len * round / 60, &[round as u8; 3000]).unwrap(),
            _ => disk.flip(&Name::Index, len * 8 * round / 60 + round % 8),
        }
        let (store, opened) = Store::open(disk.clone(), StoreConfig::default()).unwrap();
        assert!(store.has(OPERATOR, &whole.mcid), "round {round}: {opened:?}");
        assert_eq!(store.stat(&part.mcid).unwrap().groups.pairs(), [1, 2, 5, 6]);
    }
    let kept = disk.list().unwrap().into_iter().filter(|(name, _)| matches!(name, Name::DamagedIndex(_))).count();
    assert_eq!(kept, 3, "the newest");
}

/// Goal: a crash while the index is made anew only means to begin again.
#[test]
fn a_crash_while_the_index_is_made_anew_does_no_harm() {
    use sha2::{Digest as _, Sha256};
    let bytes = content(3 * GROUP_BYTES + 1);
    let sha = Mcid::from(Digest::Sha256(Sha256::digest(&bytes).into()));
    for crash_after in 0..40 {
        let disk = FaultyDisk::default();
        let store = open(disk.clone());
        let mcid = store.put(OPERATOR, &bytes, 1).unwrap();
        let partial = store.partial(OPERATOR, &sha, 1).unwrap();
        partial.set_size(bytes.len() as u64, 1).unwrap();
        partial.write_whole(0, &bytes).unwrap();
        partial.complete(1).unwrap();
        drop((partial, store));
        disk.flip(&Name::Tree(mcid.digest()), 3);
        disk.flip(&Name::Index, 3);
        disk.set_faults(Faults { seed: crash_after, crash_after: Some(crash_after), ..Faults::default() });
        let first = Store::open(disk.clone(), StoreConfig::default()).map(drop);
        assert!(first.is_ok() || disk.is_crashed(), "{first:?}");
        disk.restart();
        let (store, opened) = Store::open(disk.clone(), StoreConfig::default()).unwrap();
        assert_eq!(opened.damaged, []);
        for mcid in [&mcid, &sha] {
            let blob = store.open_blob(OPERATOR, mcid, 2).unwrap();
            assert_eq!(blob.read(0, 1 << 20).unwrap(), bytes, "crash after {crash_after}: {opened:?}");
        }
    }
}

#[test]
fn files_that_are_gone_are_said() {
    let disk = MemoryDisk::new();
    let store = open(disk.clone());
    let mcid = store.put(&plugin("a"), &content(50_000), 1).unwrap();
    store.pin(&plugin("a"), &mcid).unwrap();
    drop(store);
    disk.remove(&Name::Tree(mcid.digest())).unwrap();
    let (store, opened) = Store::open(disk.clone(), StoreConfig::default()).unwrap();
    assert_eq!(opened.damaged, std::slice::from_ref(&mcid));
    assert!(matches!(store.open_blob(OPERATOR, &mcid, 1), Err(StoreError::Incomplete)));
    store.put(OPERATOR, &content(50_000), 2).unwrap();
    assert!(store.has(&plugin("a"), &mcid));
    assert_eq!(store.stat(&mcid).unwrap().owners[0], (plugin("a"), Pinned::Yes));
}

/// Goal: several threads at once keep the books right. Method: they store, fetch, read and remove the same few contents
/// in a store that is too small, and what they read is compared.
#[test]
fn threads_share_a_store() {
    let config = StoreConfig { bytes_max: 400_000, plugin_bytes_max: 300_000 };
    let disk = MemoryDisk::new();
    let (store, _) = Store::open(disk.clone(), config).unwrap();
    let sent: Vec<_> = (0..6).map(|seed| Sent::new(bytes_of(seed, 20_000 * (seed + 1)))).collect();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (store, sent) = (store.clone(), &sent);
            scope.spawn(move || {
                let owner = if thread == 0 { Owner::Operator } else { plugin(&thread.to_string()) };
                for round in 0..300_u64 {
                    let sent = &sent[((round * 7 + thread * 3) % 6) as usize];
                    let outcome = match (round + thread) % 4 {
                        0 => store.put(&owner, &sent.bytes, round).map(drop),
                        1 => fetch_all(&store, &owner, sent, round),
                        2 if round % 3 == 0 => store.remove(&owner, &sent.mcid),
                        _ => store.open_blob(&owner, &sent.mcid, round).and_then(|blob| {
                            let bytes = blob.read(0, 1 << 20)?;
                            assert_eq!(bytes, sent.bytes);
                            Ok(())
                        }),
                    };
                    let unexpected = matches!(outcome, Err(StoreError::Io(_) | StoreError::Corrupt { .. }));
                    assert!(!unexpected, "{outcome:?}");
                }
            });
        }
    });
    let charged: u64 = store.list(None).iter().map(|stat| record::charge(stat.size.unwrap())).sum();
    let usage = store.usage();
    assert_eq!((usage.bytes, usage.reserved_bytes), (charged, 0));
    for stat in store.list(None) {
        assert!(!stat.is_open);
        assert!(store.verify(&stat.mcid, 1, |_, _| {}).unwrap().struck.is_empty());
    }
    drop(store);
    let (_, opened) = Store::open(disk, config).unwrap();
    assert_eq!(opened, Opened::default());
}

fn fetch_all(store: &Store, owner: &Owner, sent: &Sent, now: u64) -> Result<(), StoreError> {
    let partial = store.partial(owner, &sent.mcid, now)?;
    partial.set_size(sent.bytes.len() as u64, now)?;
    for group in 0..sent.geometry().groups() {
        sent.write(&partial, group)?;
        if group % 3 == 0 {
            partial.checkpoint(now)?;
        }
    }
    partial.complete(now)
}

/// 64 MiB through a folder of the operating system.
#[test]
fn a_folder_holds_large_content() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(FolderDisk::new(folder.path()).unwrap());
    let bytes = content(64 << 20);
    let mut writer = store.writer(OPERATOR).unwrap();
    for piece in bytes.chunks(1 << 20) {
        writer.write(piece).unwrap();
    }
    let mcid = writer.finish(1).unwrap();
    drop(store);
    let store = open(FolderDisk::new(folder.path()).unwrap());
    let blob = store.open_blob(OPERATOR, &mcid, 2).unwrap();
    for (begin, piece) in (0..).step_by(1 << 20).zip(bytes.chunks(1 << 20)) {
        assert!(blob.read(begin, 1 << 20).unwrap() == piece);
    }
}
