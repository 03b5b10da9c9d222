//! What proving costs: `cargo bench -p macula-content`.
//!
//! 1. Hash and outboard of content in pieces of 1 MiB.
//! 2. Encoding it, each group verified.
//! 3. Decoding it, in pieces of 64 KiB and of 1,200 bytes: at least 1.5 GB/s for the large ones.
//!
//! Everything runs on one thread; figures are medians, in GB (10⁹ bytes) of content per second.

#![allow(missing_docs, clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use macula_content::{Decoder, Encoder, Finished, Geometry, GroupSet, Item, Node, OutboardBuilder};

const RUNS: usize = 15;
const BYTES: usize = 64 << 20;

fn main() {
    let mut content = vec![0; BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    println!("content of {} MiB:", BYTES >> 20);
    report("blake3 alone, for comparison", || blake3::hash(&content));
    report("hash and outboard", || built(&content));
    let finished = built(&content);
    let geometry = Geometry::of(finished.size);
    let mut outboard = vec![[0; 64]; geometry.parents() as usize];
    for parent in &finished.parents {
        outboard[parent.index as usize] = parent.pair;
    }
    let mut encoding = Vec::with_capacity(BYTES + BYTES / 128);
    report("encode", || {
        encoding.clear();
        encode(finished.root, &content, &outboard, &mut encoding);
        encoding.len()
    });
    for piece_bytes in [64 << 10, 1200] {
        let whole = Bytes::from(encoding.clone());
        let pieces: Vec<_> = (0..whole.len())
            .step_by(piece_bytes)
            .map(|at| Bytes::copy_from_slice(&whole[at..whole.len().min(at + piece_bytes)]))
            .collect();
        report(&format!("decode pieces of {piece_bytes} bytes"), || decode(finished.root, geometry, &pieces));
    }
}

fn built(content: &[u8]) -> Finished {
    let mut builder = OutboardBuilder::new();
    for piece in content.chunks(1 << 20) {
        builder.push(piece);
    }
    builder.finish()
}

fn encode(root: [u8; 32], content: &[u8], outboard: &[[u8; 64]], out: &mut Vec<u8>) {
    let geometry = Geometry::of(content.len() as u64);
    let mut encoder = Encoder::new(root, geometry, (0..geometry.groups()).into());
    while let Some(node) = encoder.node() {
        match node {
            Node::Parent(index) => encoder.supply(&outboard[index as usize], out).unwrap(),
            Node::Group(group) => {
                let range = geometry.bytes(group);
                encoder.supply(&content[range.start as usize..range.end as usize], out).unwrap();
            }
        }
    }
}

fn decode(root: [u8; 32], geometry: Geometry, pieces: &[Bytes]) -> u64 {
    let mut decoder = Decoder::new(root, geometry, GroupSet::from(0..geometry.groups()));
    let mut bytes_in_groups = 0;
    for piece in pieces {
        decoder.push(piece.clone());
        while let Some(item) = decoder.poll_item().unwrap() {
            if let Item::Group { bytes, .. } = item {
                bytes_in_groups += bytes.len() as u64;
            }
        }
    }
    decoder.finish().unwrap();
    bytes_in_groups
}

fn report<T>(what: &str, mut run: impl FnMut() -> T) {
    let mut figures: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begin = Instant::now();
            black_box(run());
            BYTES as f64 / begin.elapsed().as_nanos() as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    println!("  {what:<40} {:>6.2} GB/s", figures[figures.len() / 2]);
}
