//! Random operations on a disk that crashes in the middle of one of them, or fills up: what is there afterwards is
//! true, and nothing that was acknowledged is lost. A failure names its seed.

use std::collections::HashMap;

use super::*;
use crate::disk::{Faults, FaultyDisk};

const SEEDS: u64 = 300;
/// Crashes in the life of one disk.
const LIVES: u64 = 3;
const CONTENTS: u64 = 10;

/// Numbers that are the same for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((u128::from(self.0 >> 16) * u128::from(bound)) >> 48) as u64
    }
}

/// A store under test, with what was acknowledged.
struct World {
    draw: Draw,
    store: Store,
    sent: Vec<Sent>,
    acknowledged: HashMap<Mcid, Stat>,
    /// What the operation that goes on is about; `None` of all.
    target: Option<Mcid>,
}

impl World {
    fn new(seed: u64, disk: &FaultyDisk, config: StoreConfig) -> Self {
        let sizes = [0, 100, 16_384, 20_000, 70_000, 150_000];
        let sent =
            (0..CONTENTS).map(|number| Sent::new(bytes_of(number, sizes[number as usize % sizes.len()]))).collect();
        let (store, _) = Store::open(disk.clone(), config).unwrap();
        Self { draw: Draw(seed), store, sent, acknowledged: HashMap::new(), target: None }
    }

    fn acknowledge(&mut self) {
        self.acknowledged = self.store.list(None).into_iter().map(|stat| (stat.mcid.clone(), stat)).collect();
    }

    fn step(&mut self, now: u64) -> Result<(), StoreError> {
        self.acknowledge();
        let number = self.draw.below(CONTENTS) as usize;
        let owner = match self.draw.below(3) {
            0 => Owner::Operator,
            other => plugin(&format!("p{other}")),
        };
        let mcid = self.sent[number].mcid.clone();
        self.target = Some(mcid.clone());
        match self.draw.below(12) {
            0..3 => self.store.put(&owner, &self.sent[number].bytes, now).map(drop),
            3 => self.write(&owner, number, now),
            4..8 => self.fetch(&owner, number, now),
            8 => self.store.remove(&owner, &mcid),
            9 => self.store.pin(&owner, &mcid),
            10 => self.store.unpin(&owner, &mcid),
            _ if self.draw.below(4) == 0 => {
                self.target = None;
                self.store.gc(now).map(drop)
            }
            _ => self.read(&owner, number, now),
        }
    }

    fn write(&mut self, owner: &Owner, number: usize, now: u64) -> Result<(), StoreError> {
        let mut writer = self.store.writer(owner)?;
        let piece_bytes = 1 + self.draw.below(90_000) as usize;
        for piece in self.sent[number].bytes.chunks(piece_bytes) {
            writer.write(piece)?;
        }
        if self.draw.below(4) == 0 { Ok(()) } else { writer.finish(now).map(drop) }
    }

    fn fetch(&mut self, owner: &Owner, number: usize, now: u64) -> Result<(), StoreError> {
        let partial = self.store.partial(owner, &self.sent[number].mcid, now)?;
        let geometry = self.sent[number].geometry();
        partial.set_size(geometry.size(), now)?;
        self.sent[number].write(&partial, geometry.last_group())?;
        for _ in 0..self.draw.below(12) {
            let group = self.draw.below(geometry.groups());
            self.sent[number].write(&partial, group)?;
            if self.draw.below(3) == 0 {
                partial.checkpoint(now)?;
                self.acknowledge();
            }
        }
        partial.complete(now)
    }

    fn read(&mut self, owner: &Owner, number: usize, now: u64) -> Result<(), StoreError> {
        let sent = &self.sent[number];
        let blob = self.store.open_blob(owner, &sent.mcid, now)?;
        let (offset, len) = (self.draw.below(160_000), self.draw.below(60_000));
        let size = sent.bytes.len() as u64;
        let expected = &sent.bytes[offset.min(size) as usize..(offset + len).min(size) as usize];
        assert_eq!(blob.read(offset, len as usize)?, expected);
        Ok(())
    }

    /// Everything that is known, without when it was used.
    fn everything(&self) -> Vec<Stat> {
        let mut all: Vec<_> = self.store.list(None).into_iter().map(|stat| Stat { last_use: 0, ..stat }).collect();
        all.sort_by(|one, other| one.mcid.cmp(&other.mcid));
        all
    }

    /// What holds at any time that nothing goes on.
    fn check(&self, disk: &FaultyDisk, seed: u64) {
        let files: HashMap<_, _> = disk.list().unwrap().into_iter().collect();
        let (mut bytes, mut named) = (0, 1);
        for stat in self.store.list(None) {
            let digest = stat.mcid.digest();
            let size = stat.size.unwrap();
            assert_eq!(files[&Name::Data(digest)], size, "seed {seed}");
            let outboard_bytes = Geometry::of(size).outboard_bytes();
            assert_eq!(files.get(&Name::Tree(digest)).copied().unwrap_or(0), outboard_bytes, "seed {seed}");
            named += 1 + usize::from(outboard_bytes > 0);
            bytes += record::charge(size);
            let verified = self.store.verify(&stat.mcid, 0, |_, _| {}).unwrap();
            assert_eq!(verified, Verified { good: stat.groups, ..Verified::default() }, "seed {seed}");
        }
        assert_eq!(files.len(), named, "seed {seed}: {files:?}");
        assert_eq!(self.store.usage().bytes, bytes, "seed {seed}");
        self.check_accounts(seed);
    }

    /// What holds even when a file could not be removed.
    fn check_accounts(&self, seed: u64) {
        let usage = self.store.usage();
        let charged: u64 = self.store.list(None).iter().map(|stat| record::charge(stat.size.unwrap())).sum();
        assert_eq!((usage.bytes, usage.reserved_bytes), (charged, 0), "seed {seed}");
        for (owner, contents, bytes) in usage.owners {
            let own = self.store.list(Some(&owner));
            assert_eq!(own.len() as u64, contents, "seed {seed}");
            assert_eq!(own.iter().map(|stat| record::charge(stat.size.unwrap())).sum::<u64>(), bytes, "seed {seed}");
        }
    }

    /// What was acknowledged before an operation that was cut off.
    fn check_acknowledged(&self, may_evict: bool, seed: u64) {
        for (mcid, before) in &self.acknowledged {
            let is_pinned = before.owners.iter().any(|(_, pinned)| *pinned == Pinned::Yes);
            if self.target.as_ref().is_none_or(|target| target == mcid) || may_evict && !is_pinned {
                continue;
            }
            let after = self.store.stat(mcid).unwrap_or_else(|| panic!("seed {seed}: {mcid} is lost"));
            assert_eq!((after.size, &after.groups), (before.size, &before.groups), "seed {seed}");
            let mut owners = before.owners.clone();
            if may_evict {
                // A plugin that is full gives up what it has not pinned.
                owners.retain(|(_, pinned)| *pinned == Pinned::Yes);
                assert!(owners.iter().all(|owner| after.owners.contains(owner)), "seed {seed}");
            } else {
                assert_eq!(after.owners, owners, "seed {seed}");
            }
        }
    }
}

/// Half of the seeds with quotas that are too small for everything.
fn config(seed: u64) -> StoreConfig {
    if seed.is_multiple_of(2) {
        StoreConfig::default()
    } else {
        StoreConfig { bytes_max: 230_000, plugin_bytes_max: 180_000 }
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_a_crash() {
    let mut crashes = 0;
    for seed in 0..SEEDS {
        let disk = FaultyDisk::new(Faults { seed, ..Faults::default() });
        let mut world = World::new(seed, &disk, config(seed));
        for life in 0..LIVES {
            let crash_after = Some(world.draw.below(400));
            disk.set_faults(Faults { seed: seed * LIVES + life, crash_after, ..Faults::default() });
            for now in 0..40 {
                // Whatever it says, unless it says nothing: the disk has the last word.
                let outcome = world.step(now);
                if disk.is_crashed() {
                    break;
                }
                match outcome {
                    Ok(()) => {}
                    Err(
                        StoreError::Io(_)
                        | StoreError::DiskFull
                        | StoreError::Corrupt { .. }
                        | StoreError::CorruptWhole,
                    ) => {
                        panic!("seed {seed}: {outcome:?}")
                    }
                    Err(_) => {}
                }
            }
            if disk.is_crashed() {
                crashes += 1;
            } else {
                world.acknowledge();
                world.target = Some(Mcid::of(b"none"));
                world.check(&disk, seed);
            }
            disk.restart();
            let (store, opened) = Store::open(disk.clone(), config(seed)).unwrap();
            world.store = store;
            assert_eq!((&opened.set_aside, opened.rebuilt, &opened.damaged[..]), (&None, None, &[][..]), "seed {seed}");
            world.check(&disk, seed);
            world.check_acknowledged(!seed.is_multiple_of(2), seed);
        }
    }
    assert!(crashes > SEEDS, "only {crashes}");
}

/// Goal: a disk that fails once, anywhere, costs the operation at hand and nothing else. The store goes on without a
/// new start, and the next start finds the same.
#[test]
fn a_disk_that_fails_once_does_no_harm() {
    let mut failures = 0;
    for seed in 0..SEEDS {
        let disk = FaultyDisk::new(Faults { seed, ..Faults::default() });
        let mut world = World::new(seed, &disk, config(seed));
        for round in 0..6 {
            let fail_after = Some(world.draw.below(150));
            disk.set_faults(Faults { seed, fail_after, ..Faults::default() });
            for now in 0..12 {
                if let Err(StoreError::Io(_)) = world.step(now) {
                    failures += 1;
                    world.check_acknowledged(!seed.is_multiple_of(2), seed);
                }
            }
            disk.set_faults(Faults::default());
            // What failed is written with whatever is written next.
            world.store.put(OPERATOR, &bytes_of(100 + round, 50), 50).unwrap();
            world.check_accounts(seed);
            let before = world.everything();
            disk.restart();
            let (store, opened) = Store::open(disk.clone(), config(seed)).unwrap();
            world.store = store;
            assert_eq!((&opened.set_aside, opened.rebuilt, &opened.damaged[..]), (&None, None, &[][..]), "seed {seed}");
            assert_eq!(world.everything(), before, "seed {seed}");
            world.check(&disk, seed);
        }
    }
    assert!(failures > 2 * SEEDS, "only {failures}");
}

/// A crash while the store is made: the next start makes it.
#[test]
fn a_crash_at_the_first_start_does_no_harm() {
    for crash_after in 0..40 {
        for seed in 0..4 {
            let disk = FaultyDisk::new(Faults { seed, crash_after: Some(crash_after), ..Faults::default() });
            let first = Store::open(disk.clone(), StoreConfig::default()).map(drop);
            assert!(first.is_ok() || disk.is_crashed(), "{first:?}");
            disk.restart();
            let (store, opened) = Store::open(disk, StoreConfig::default()).unwrap();
            assert_eq!((opened.set_aside, opened.rebuilt), (None, None), "seed {seed}, after {crash_after}");
            store.put(OPERATOR, b"some", 1).unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_said_and_does_no_harm() {
    let mut fulls = 0;
    for seed in 0..SEEDS / 3 {
        let disk = FaultyDisk::new(Faults { seed, ..Faults::default() });
        let mut world = World::new(seed, &disk, config(seed));
        let used: u64 = disk.list().unwrap().iter().map(|(_, bytes)| bytes).sum();
        let capacity_bytes = Some(used / 2 + world.draw.below(600_000));
        disk.set_faults(Faults { seed, capacity_bytes, ..Faults::default() });
        for now in 0..40 {
            match world.step(now) {
                Err(StoreError::DiskFull) => {
                    fulls += 1;
                    world.check_acknowledged(!seed.is_multiple_of(2), seed);
                }
                Err(StoreError::Io(error)) => panic!("seed {seed}: {error}"),
                _ => {}
            }
        }
        disk.set_faults(Faults { seed, ..Faults::default() });
        world.acknowledge();
        world.target = Some(Mcid::of(b"none"));
        // Without another start: the index takes rows again, also those that failed.
        world.store.put(OPERATOR, b"there is room", 50).unwrap();
        world.check(&disk, seed);
        disk.restart();
        let (store, opened) = Store::open(disk.clone(), config(seed)).unwrap();
        world.store = store;
        assert_eq!((&opened.set_aside, opened.rebuilt, &opened.damaged[..]), (&None, None, &[][..]), "seed {seed}");
        world.check(&disk, seed);
        world.check_acknowledged(!seed.is_multiple_of(2), seed);
    }
    assert!(fulls > SEEDS / 3, "only {fulls}");
}

/// Goal: a write that fails in the middle, wherever that is, leaves nothing behind but what was there.
#[test]
fn a_write_that_finds_the_disk_full_leaves_nothing() {
    let bytes = content(100_000);
    let disk = FaultyDisk::default();
    let store = open(disk.clone());
    let blocks: u64 = disk.list().unwrap().iter().map(|(_, bytes)| bytes.div_ceil(4096) * 4096).sum();
    let mut failed = 0;
    for room in (0..).step_by(4096) {
        let capacity_bytes = Some(blocks / 8 + room);
        disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
        match store.put(OPERATOR, &bytes, 1) {
            Ok(_) => break,
            Err(StoreError::DiskFull) => failed += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!((store.usage().bytes, store.usage().reserved_bytes), (0, 0));
        assert_eq!(disk.list().unwrap().len(), 1, "the index");
    }
    assert!(failed > 20, "{failed}");
    assert!(store.has(OPERATOR, &Mcid::of(&bytes)));
}
