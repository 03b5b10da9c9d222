//! Encoder, decoder and outboard together, and against an implementation that shares no code with ours.

use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges, io::outboard::PreOrderMemOutboard};
use bytes::Bytes;
use proptest::prelude::*;

use crate::{DecodeError, Decoder, Encoder, GROUP_BYTES, Geometry, GroupSet, Item, Node, OutboardBuilder, WalkError};

/// Bytes that differ from group to group.
pub(crate) fn content(bytes: u64) -> Vec<u8> {
    let mut content = vec![0; bytes as usize];
    blake3::Hasher::new().update(b"content").finalize_xof().fill(&mut content);
    content
}

/// Content with its outboard, as a disk has it.
struct Stored {
    root: [u8; 32],
    content: Vec<u8>,
    outboard: Vec<u8>,
}

impl Stored {
    fn new(content: Vec<u8>) -> Self {
        let mut builder = OutboardBuilder::new();
        builder.push(&content);
        let finished = builder.finish();
        let mut outboard = vec![0; Geometry::of(finished.size).outboard_bytes() as usize];
        for parent in finished.parents {
            outboard[parent.index as usize * 64..][..64].copy_from_slice(&parent.pair);
        }
        Self { root: finished.root, content, outboard }
    }

    fn geometry(&self) -> Geometry {
        Geometry::of(self.content.len() as u64)
    }

    fn encode(&self, groups: &GroupSet) -> Result<Vec<u8>, WalkError> {
        let mut encoder = Encoder::new(self.root, self.geometry(), groups.clone());
        let mut out = Vec::new();
        while let Some(node) = encoder.node() {
            let bytes = match node {
                Node::Parent(index) => &self.outboard[index as usize * 64..][..64],
                Node::Group(group) => {
                    let range = self.geometry().bytes(group);
                    &self.content[range.start as usize..range.end as usize]
                }
            };
            encoder.supply(bytes, &mut out)?;
        }
        Ok(out)
    }

    /// Decodes and compares with what is stored; the groups that came.
    fn decode(&self, encoding: &[u8], groups: &GroupSet, cut: usize) -> Result<GroupSet, DecodeError> {
        let mut decoder = Decoder::new(self.root, self.geometry(), groups.clone());
        let mut came = GroupSet::new();
        for piece in encoding.chunks(cut) {
            decoder.push(Bytes::copy_from_slice(piece));
            while let Some(item) = decoder.poll_item()? {
                match item {
                    Item::Parent(parent) => {
                        assert_eq!(self.outboard[parent.index as usize * 64..][..64], parent.pair);
                    }
                    Item::Group { group, bytes } => {
                        let range = self.geometry().bytes(group);
                        assert_eq!(self.content[range.start as usize..range.end as usize], bytes);
                        came.insert(&(group..group + 1).into());
                    }
                }
            }
        }
        // No content is a group that takes no bytes at all.
        if let Some(Item::Group { group, .. }) = decoder.poll_item()? {
            came.insert(&(group..group + 1).into());
        }
        decoder.finish().map(|()| came)
    }
}

fn sizes() -> impl Strategy<Value = u64> {
    (0..20_u64, prop::sample::select(&[0_u64, 1, 1023, 1024, 1025, 16_383][..]))
        .prop_map(|(groups, extra)| groups * GROUP_BYTES + extra)
}

fn group_sets() -> impl Strategy<Value = GroupSet> {
    prop::collection::vec((0..22_u64, 0..6_u64), 0..4)
        .prop_map(|ranges| ranges.into_iter().map(|(start, len)| start..start + len).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// What is encoded decodes to the same, in whatever pieces, and is what the other implementation makes of it.
    #[test]
    fn round_trip(size in sizes(), groups in group_sets(), cut in 1..40_000_usize) {
        let stored = Stored::new(content(size));
        let there = groups.intersection(&(0..stored.geometry().groups()).into());
        let encoding = stored.encode(&groups).unwrap();
        prop_assert_eq!(stored.decode(&encoding, &groups, cut), Ok(there.clone()));
        prop_assert_eq!(encoding, oracle(&stored.content, &there));
    }

    /// One byte that is other than it was: the decoder never gets to the end, nor does an encoder that reads it.
    #[test]
    fn a_flipped_byte_is_refused(size in sizes(), groups in group_sets(), at: prop::sample::Index, flip in 1..=255_u8) {
        let stored = Stored::new(content(size));
        let mut encoding = stored.encode(&groups).unwrap();
        prop_assume!(!encoding.is_empty());
        let at = at.index(encoding.len());
        encoding[at] ^= flip;
        let error = stored.decode(&encoding, &groups, 9000).unwrap_err();
        prop_assert!(matches!(error, DecodeError::Corrupt(_)), "{:?}", error);
    }

    /// What ends early is short; what goes on is refused.
    #[test]
    fn truncation_is_refused(size in sizes(), groups in group_sets(), at: prop::sample::Index) {
        let stored = Stored::new(content(size));
        let mut encoding = stored.encode(&groups).unwrap();
        prop_assume!(!encoding.is_empty());
        let short = stored.decode(&encoding[..at.index(encoding.len())], &groups, 9000);
        prop_assert!(matches!(short, Err(DecodeError::Short(_))), "{:?}", short);
        encoding.push(0);
        prop_assert_eq!(stored.decode(&encoding, &groups, 9000), Err(DecodeError::Trailing));
    }

    /// The last group proves the size: no other size has an encoding of its last group.
    #[test]
    fn another_size_is_refused(size in sizes(), lie in sizes(), near in -2..=2_i64) {
        let stored = Stored::new(content(size));
        for lie in [lie, size.saturating_add_signed(near)] {
            let geometry = Geometry::of(lie);
            prop_assume!(lie != size);
            let last = GroupSet::from(geometry.last_group()..geometry.groups());
            let mut decoder = Decoder::new(stored.root, geometry, last);
            // The best that a liar can do: the true path to the true end, and then whatever is needed.
            decoder.push(stored.encode(&(stored.geometry().last_group()..u64::MAX).into()).unwrap().into());
            decoder.push(Bytes::from(stored.content.clone()));
            decoder.push(Bytes::from(vec![0; 40_000]));
            while let Ok(Some(item)) = decoder.poll_item() {
                prop_assert!(!matches!(item, Item::Group { .. }), "{lie} for {size}");
            }
            prop_assert!(decoder.finish().is_err());
        }
    }
}

#[test]
fn a_spoiled_disk_is_found_and_said() {
    let mut stored = Stored::new(content(9 * GROUP_BYTES));
    stored.content[3 * GROUP_BYTES as usize + 5] ^= 1;
    assert_eq!(stored.encode(&(0..9).into()), Err(WalkError::Corrupt(Node::Group(3))));
    assert!(stored.encode(&(4..9).into()).is_ok(), "the others are well");
    stored.outboard[64 * 5] ^= 1;
    assert_eq!(stored.encode(&(4..9).into()), Err(WalkError::Corrupt(Node::Parent(5))));
}

#[test]
fn nodes_of_another_length_are_refused() {
    let stored = Stored::new(content(2 * GROUP_BYTES));
    let mut encoder = Encoder::new(stored.root, stored.geometry(), (0..9).into());
    let (node, mut out) = (Node::Parent(0), Vec::new());
    assert_eq!(encoder.node(), Some(node));
    for bytes in [0, 63, 65] {
        let refused = encoder.supply(&[1; 65][..bytes], &mut out);
        assert_eq!(refused, Err(WalkError::Length { node, bytes, expected: 64 }));
    }
    assert_eq!(encoder.supply(&stored.outboard, &mut out), Ok(()), "it is still where it was");
    assert_eq!(out, stored.outboard);
}

#[test]
fn no_content_is_one_group() {
    let stored = Stored::new(Vec::new());
    assert_eq!(stored.encode(&(0..1).into()), Ok(Vec::new()));
    assert_eq!(stored.decode(&[], &(0..1).into(), 1), Ok((0..1).into()));
    let mut other = Decoder::new([1; 32], Geometry::of(0), (0..1).into());
    assert_eq!(other.poll_item(), Err(DecodeError::Corrupt(Node::Group(0))), "even nothing is verified");
}

/// The largest size that can be claimed costs nothing.
#[test]
fn absurd_sizes_are_harmless() {
    let mut decoder = Decoder::new([1; 32], Geometry::of(u64::MAX), (0..u64::MAX).into());
    decoder.push(Bytes::from(vec![0; 64]));
    assert!(matches!(decoder.poll_item(), Err(DecodeError::Corrupt(Node::Parent(_)))));
}

fn oracle(content: &[u8], groups: &GroupSet) -> Vec<u8> {
    let outboard = PreOrderMemOutboard::create(content, BlockSize::from_chunk_log(4));
    assert_eq!(outboard.tree, BaoTree::new(content.len() as u64, BlockSize::from_chunk_log(4)));
    let mut ranges = ChunkRanges::empty();
    for range in groups.ranges() {
        // Past the end it stands for the last chunk, as it does there.
        ranges |= ChunkRanges::from(ChunkNum(range.start * 16)..ChunkNum(range.end * 16));
    }
    let mut encoding = Vec::new();
    bao_tree::io::sync::encode_ranges_validated(content, &outboard, &ranges, &mut encoding).unwrap();
    encoding
}
