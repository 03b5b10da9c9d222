//! The shape of the tree over content of a size: its groups, its parents, and where each stands.
//!
//! The left half of a subtree has as many groups as the largest power of two that leaves something for the right half. So
//! every group but the first begins the right half of exactly one parent, and that names the parent: **parent m − 1 is the one
//! whose right half begins with group m**. These numbers are those of an in-order traversal. They do not depend on how large
//! the content is in the end, which is why the outboard is kept in this order: it can be written while content of unknown
//! size comes in, and never needs to be put in order afterwards.
//!
//! Specified in `docs/protocol/content.md`, “The tree”.

use std::ops::Range;

/// Of a group, except for the last.
pub const GROUP_BYTES: u64 = 16 * 1024;
/// Of a parent: the chaining values of its left and right half.
pub const PARENT_BYTES: u64 = 64;

/// The tree over content of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    bytes: u64,
}

impl Geometry {
    /// Of content of `bytes` bytes; any number will do.
    pub fn of(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Size of the content, in bytes.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Number of groups: at least one, since no content is one group of no bytes.
    pub fn groups(&self) -> u64 {
        self.bytes.div_ceil(GROUP_BYTES).max(1)
    }

    /// Number of the last group, which proves the size.
    pub fn last_group(&self) -> u64 {
        self.groups() - 1
    }

    /// Which bytes of the content are `group`; none when there is no such group.
    pub fn bytes(&self, group: u64) -> Range<u64> {
        let start = group.saturating_mul(GROUP_BYTES).min(self.bytes);
        start..start.saturating_add(GROUP_BYTES).min(self.bytes)
    }

    /// How many bytes `group` has.
    pub fn group_bytes(&self, group: u64) -> u64 {
        let Range { start, end } = self.bytes(group);
        end - start
    }

    /// The groups that hold some of the bytes `range`; none for no bytes.
    pub fn groups_of(&self, range: Range<u64>) -> Range<u64> {
        let end = range.end.min(self.bytes).div_ceil(GROUP_BYTES);
        if range.start >= range.end.min(self.bytes) { 0..0 } else { range.start / GROUP_BYTES..end }
    }

    /// Number of parents.
    pub fn parents(&self) -> u64 {
        self.groups() - 1
    }

    /// Of the outboard: all parents, [`PARENT_BYTES`] each.
    pub fn outboard_bytes(&self) -> u64 {
        self.parents() * PARENT_BYTES
    }

    /// Where a parent stands in the outboard, in bytes from its beginning.
    pub fn parent_offset(parent: u64) -> u64 {
        parent * PARENT_BYTES
    }
}

/// Where the right half of the subtree over `groups`, at least two, begins.
pub(crate) fn split(groups: &Range<u64>) -> u64 {
    debug_assert!(groups.end - groups.start >= 2);
    // The largest power of two below the number of groups.
    groups.start + (1 << (groups.end - groups.start - 1).ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_the_content() {
        for (bytes, groups) in
            [(0, 1), (1, 1), (GROUP_BYTES, 1), (GROUP_BYTES + 1, 2), (5 * GROUP_BYTES, 5), (u64::MAX, 1 << 50)]
        {
            let tree = Geometry::of(bytes);
            assert_eq!(tree.groups(), groups, "{bytes}");
            assert_eq!(tree.bytes(tree.last_group()).end, bytes);
            assert_eq!(tree.group_bytes(groups), 0, "there is none");
            assert_eq!(tree.outboard_bytes(), (groups - 1) * 64);
            assert!(bytes == 0 || tree.group_bytes(tree.last_group()) > 0);
        }
        let tree = Geometry::of(3 * GROUP_BYTES + 1);
        assert_eq!(tree.groups_of(0..1), 0..1);
        assert_eq!(tree.groups_of(GROUP_BYTES - 1..GROUP_BYTES + 1), 0..2);
        assert_eq!(tree.groups_of(0..u64::MAX), 0..4);
        assert_eq!(tree.groups_of(7..7), 0..0);
        assert_eq!(tree.groups_of(tree.size()..u64::MAX), 0..0);
    }

    #[test]
    fn every_parent_has_its_own_number_and_keeps_it() {
        fn number(groups: Range<u64>, seen: &mut Vec<u64>) {
            if groups.end - groups.start > 1 {
                let middle = split(&groups);
                number(groups.start..middle, seen);
                seen.push(middle - 1);
                number(middle..groups.end, seen);
            }
        }
        for groups in 1..200 {
            let mut seen = Vec::new();
            number(0..groups, &mut seen);
            assert_eq!(seen, (0..groups - 1).collect::<Vec<_>>());
        }
    }
}
