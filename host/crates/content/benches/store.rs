//! What storing costs: `cargo bench -p macula-content --bench store`.
//!
//! 256 MiB through a folder of the operating system: written in pieces of 1 MiB until durable, read in pieces of 1 MiB
//! and of 16 KiB, every byte verified; received by groups, made durable every 16 MiB; and small contents, each durable
//! before the next.
//!
//! The folder is made where `BENCH_FOLDER` says, or here. What is read was just written, so it comes from memory.
//! Everything runs on one thread; figures are medians, in MB (10⁶ bytes) per second.

#![allow(missing_docs, clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{hint::black_box, time::Instant};

use macula_content::{GROUP_BYTES, Owner, Store, StoreConfig, disk::FolderDisk};
use macula_wire::Mcid;

const RUNS: usize = 5;
const BYTES: usize = 256 << 20;
const PIECE_BYTES: usize = 1 << 20;
const SMALL: usize = 100;
const OWNER: &Owner = &Owner::Operator;

fn main() {
    let mut content = vec![0; BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let folder = tempfile::tempdir_in(std::env::var("BENCH_FOLDER").unwrap_or_else(|_| ".".into())).unwrap();
    let (store, _) = Store::open(FolderDisk::new(folder.path()).unwrap(), StoreConfig::default()).unwrap();
    println!("content of {} MiB:", BYTES >> 20);
    let mcid = Mcid::of(&content);
    report("write until durable", || {
        // Otherwise it is here already.
        let _ = store.remove(OWNER, &mcid);
        let begin = Instant::now();
        write(&store, &content);
        begin.elapsed().as_secs_f64()
    });
    for len in [PIECE_BYTES, GROUP_BYTES as usize] {
        report(&format!("verified read of {} KiB", len >> 10), || {
            let begin = Instant::now();
            read(&store, &mcid, len);
            begin.elapsed().as_secs_f64()
        });
    }
    receive(&store, &mcid, &content);
    let begin = Instant::now();
    for number in 0..SMALL {
        store.put(OWNER, &content[number..number + 1000], 1).unwrap();
    }
    let rate = SMALL as f64 / begin.elapsed().as_secs_f64();
    println!("  {:<40} {rate:>6.0} a second", "small contents, each durable");
}

fn write(store: &Store, content: &[u8]) {
    let mut writer = store.writer(OWNER).unwrap();
    for piece in content.chunks(PIECE_BYTES) {
        writer.write(piece).unwrap();
    }
    writer.finish(1).unwrap();
}

fn read(store: &Store, mcid: &Mcid, len: usize) {
    let blob = store.open_blob(OWNER, mcid, 2).unwrap();
    for offset in (0..BYTES).step_by(len) {
        black_box(blob.read(offset as u64, len).unwrap());
    }
}

fn receive(store: &Store, mcid: &Mcid, content: &[u8]) {
    let blob = store.open_blob(OWNER, mcid, 2).unwrap();
    let parents: Vec<_> = (0..BYTES as u64 / GROUP_BYTES - 1).map(|index| blob.parent_raw(index).unwrap()).collect();
    drop(blob);
    report("received by groups until durable", || {
        store.remove(OWNER, mcid).unwrap();
        let begin = Instant::now();
        let partial = store.partial(OWNER, mcid, 1).unwrap();
        partial.set_size(BYTES as u64, 1).unwrap();
        for (index, pair) in (0..).zip(&parents) {
            partial.write_parent(&macula_content::Parent { index, pair: *pair }).unwrap();
        }
        for (group, bytes) in (0..).zip(content.chunks(GROUP_BYTES as usize)) {
            partial.write_group(group, bytes).unwrap();
            if group % 1024 == 1023 {
                partial.checkpoint(1).unwrap();
            }
        }
        partial.complete(1).unwrap();
        begin.elapsed().as_secs_f64()
    });
}

/// `run` says how many seconds it took.
fn report(what: &str, mut run: impl FnMut() -> f64) {
    let mut figures: Vec<f64> = (0..RUNS).map(|_| BYTES as f64 / run() / 1e6).collect();
    figures.sort_by(f64::total_cmp);
    println!("  {what:<40} {:>6.0} MB/s", figures[figures.len() / 2]);
}
