//! Decoding: whatever comes, and whatever size is claimed, nothing comes out but the content's own groups and parents.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use macula_content::{Decoder, Encoder, Geometry, GroupSet, Item, Node, OutboardBuilder};

fuzz_target!(|data: &[u8]| {
    let Some((setting, rest)) = data.split_first_chunk::<24>() else { return };
    let number = |at: usize| u64::from_le_bytes(setting[at..at + 8].try_into().unwrap());
    // Content of up to six groups; groups that are wanted of it; a size that is claimed, mostly the true one.
    let size = number(0) % (6 * 16_384);
    let groups: GroupSet =
        [number(8) % 7..number(8) / 7 % 7, number(8) / 49 % 7..number(8) / 343 % 9].into_iter().collect();
    let claimed = if number(16) % 4 == 0 { number(16) / 4 } else { size };
    let cut = 1 + number(16) as usize / 4 % 40_000;

    let content: Vec<u8> = (0..size).map(|at| (at / 1000) as u8 ^ at as u8).collect();
    let mut builder = OutboardBuilder::new();
    builder.push(&content);
    let finished = builder.finish();
    let true_shape = Geometry::of(size);
    let pair = |index| finished.parents.iter().find(|parent| parent.index == index).unwrap().pair;
    let bytes = |group| &content[true_shape.bytes(group).start as usize..true_shape.bytes(group).end as usize];

    let mut encoding = Vec::new();
    let mut encoder = Encoder::new(finished.root, true_shape, groups.clone());
    while let Some(node) = encoder.node() {
        match node {
            Node::Parent(index) => encoder.supply(&pair(index), &mut encoding).unwrap(),
            Node::Group(group) => encoder.supply(bytes(group), &mut encoding).unwrap(),
        }
    }
    let right = encoding.clone();
    // The rest of the data alters it: places and what to put there.
    for change in rest.chunks_exact(4) {
        let at = usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
        match encoding.len() {
            0 => encoding.push(change[3]),
            len if change[3] == 0 => encoding.truncate(at % len),
            len => encoding[at % len] ^= change[3],
        }
    }

    let mut decoder = Decoder::new(finished.root, Geometry::of(claimed), groups);
    'pieces: for piece in encoding.chunks(cut).chain([&[][..]]) {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.poll_item() {
                Ok(Some(Item::Group { group, bytes: came })) => assert_eq!(bytes(group), came),
                Ok(Some(Item::Parent(parent))) if claimed == size => assert_eq!(pair(parent.index), parent.pair),
                // Under another size the hashes are true, and their place is not; so none is written before it is proved.
                Ok(Some(Item::Parent(parent))) => assert!(finished.parents.iter().any(|own| own.pair == parent.pair)),
                Ok(None) => break,
                Err(_) => break 'pieces,
            }
        }
    }
    if claimed == size && decoder.finish().is_ok() {
        assert_eq!(encoding, right, "only one encoding is right");
    }
});
