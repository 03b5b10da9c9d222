//! Sets of groups: which are wanted, sent, there.
//!
//! Kept as disjoint ranges in ascending order, which is also how they are written: `[start, end, start, end, …]`, ends
//! exclusive. Specified in `docs/protocol/content.md`, “A request”.

use std::{fmt, ops::Range};

use range_collections::{RangeSet2, range_set::RangeSetRange};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ranges of a set that is read or sent. 256 pairs of the usual numbers are below 3 KiB, so that a head holds two sets.
pub const PAIRS_MAX: usize = 256;

/// Some groups, by their numbers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct GroupSet(RangeSet2<u64>);

/// Why numbers are no [`GroupSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupSetError {
    /// More than [`PAIRS_MAX`].
    #[error("{0} ranges of groups, at most {PAIRS_MAX} are allowed")]
    TooMany(usize),
    /// The last range has no end.
    #[error("a range of groups without an end")]
    Odd,
    /// Empty ranges, ranges that overlap, touch, or descend.
    #[error("ranges of groups that do not ascend, apart")]
    Order,
}

impl GroupSet {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// From boundaries: `[start, end, start, end, …]`.
    ///
    /// # Errors
    /// See [`GroupSetError`].
    pub fn from_pairs(boundaries: &[u64]) -> Result<Self, GroupSetError> {
        if boundaries.len() > 2 * PAIRS_MAX {
            return Err(GroupSetError::TooMany(boundaries.len().div_ceil(2)));
        }
        if !boundaries.len().is_multiple_of(2) {
            return Err(GroupSetError::Odd);
        }
        RangeSet2::new(boundaries.into()).map(Self).ok_or(GroupSetError::Order)
    }

    /// As [`GroupSet::from_pairs`], but however many there are: from our own disk. `None` when they are no set.
    pub(crate) fn from_boundaries(boundaries: Vec<u64>) -> Option<Self> {
        let is_even = boundaries.len().is_multiple_of(2);
        RangeSet2::new(boundaries.into()).map(Self).filter(|_| is_even)
    }

    /// The boundaries: `[start, end, start, end, …]`, of all ranges, be they more than [`PAIRS_MAX`].
    pub fn pairs(&self) -> &[u64] {
        self.0.boundaries()
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.pairs().chunks_exact(2).map(|pair| pair[0]..pair[1])
    }

    /// The groups one by one, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges().flatten()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many groups.
    pub fn count(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }

    /// The lowest.
    pub fn first(&self) -> Option<u64> {
        self.pairs().first().copied()
    }

    /// Whether it holds `group`.
    pub fn contains(&self, group: u64) -> bool {
        self.0.contains(&group)
    }

    /// Whether it holds one of `range`.
    pub fn intersects(&self, range: &Range<u64>) -> bool {
        let boundaries = self.pairs();
        // The first range that ends behind the beginning is the only one that matters.
        let index = boundaries.partition_point(|boundary| *boundary <= range.start);
        index % 2 == 1 && range.start < range.end || boundaries.get(index).is_some_and(|start| *start < range.end)
    }

    /// Whether it holds all of `other`.
    pub fn includes(&self, other: &Self) -> bool {
        self.0.is_superset(&other.0)
    }

    /// Adds groups.
    pub fn insert(&mut self, other: &Self) {
        self.0.union_with(&other.0);
    }

    /// Takes groups out.
    pub fn remove(&mut self, other: &Self) {
        self.0.difference_with(&other.0);
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0))
    }

    /// What is in one or both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0))
    }

    /// What is here and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0))
    }

    /// The first `count` groups, or all.
    #[must_use]
    pub fn first_groups(&self, count: u64) -> Self {
        let mut left = count;
        let mut boundaries = Vec::new();
        for range in self.ranges() {
            if left == 0 {
                break;
            }
            let taken = left.min(range.end - range.start);
            boundaries.extend([range.start, range.start + taken]);
            left -= taken;
        }
        Self::ascending(boundaries)
    }

    /// The first `count` ranges, or all.
    #[must_use]
    pub fn first_ranges(&self, count: usize) -> Self {
        Self::ascending(self.pairs()[..self.pairs().len().min(2 * count)].to_vec())
    }

    /// Cut in two: the first `count` groups, and the others.
    pub fn split_at(&self, count: u64) -> (Self, Self) {
        let first = self.first_groups(count);
        let rest = self.difference(&first);
        (first, rest)
    }

    fn ascending(boundaries: Vec<u64>) -> Self {
        Self(RangeSet2::new(boundaries.into()).expect("what was cut from ascending ranges ascends"))
    }
}

impl From<Range<u64>> for GroupSet {
    fn from(range: Range<u64>) -> Self {
        if range.is_empty() { Self::new() } else { Self(RangeSet2::from(RangeSetRange::from(range))) }
    }
}

impl FromIterator<Range<u64>> for GroupSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(&range.into());
        }
        set
    }
}

impl fmt::Debug for GroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

impl Serialize for GroupSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pairs().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for GroupSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_pairs(&Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set() -> impl Strategy<Value = GroupSet> {
        prop::collection::vec((0..60_u64, 0..9_u64), 0..8)
            .prop_map(|ranges| ranges.into_iter().map(|(start, len)| start..start + len).collect())
    }

    #[test]
    fn only_one_spelling_is_read() {
        assert_eq!(GroupSet::from_pairs(&[]), Ok(GroupSet::new()));
        assert_eq!(GroupSet::from_pairs(&[0, u64::MAX]), Ok((0..u64::MAX).into()));
        assert_eq!(GroupSet::from_pairs(&[1]), Err(GroupSetError::Odd));
        for bad in [[1, 1, 2, 3], [2, 1, 3, 4], [1, 2, 2, 3], [1, 4, 3, 5], [3, 4, 1, 2]] {
            assert_eq!(GroupSet::from_pairs(&bad), Err(GroupSetError::Order), "{bad:?}");
        }
        let many: Vec<_> = (0..2 * PAIRS_MAX as u64).collect();
        assert_eq!(GroupSet::from_pairs(&many).unwrap().count(), PAIRS_MAX as u64);
        assert_eq!(GroupSet::from_pairs(&[&many[..], &[9000, 9001]].concat()), Err(GroupSetError::TooMany(257)));
    }

    proptest! {
        /// All operations against a plain set of numbers.
        #[test]
        fn behaves_as_a_set(a in set(), b in set(), count in 0..40_u64, range in (0..70_u64, 0..9_u64)) {
            let plain = |set: &GroupSet| set.iter().collect::<BTreeSet<_>>();
            let (x, y) = (plain(&a), plain(&b));
            prop_assert_eq!(plain(&a.union(&b)), &x | &y);
            prop_assert_eq!(plain(&a.intersection(&b)), &x & &y);
            prop_assert_eq!(plain(&a.difference(&b)), &x - &y);
            prop_assert_eq!(a.includes(&b), x.is_superset(&y));
            prop_assert_eq!(a.count(), x.len() as u64);
            prop_assert_eq!(a.first(), x.first().copied());
            let range = range.0..range.0 + range.1;
            prop_assert_eq!(a.intersects(&range), range.clone().any(|group| x.contains(&group)));
            prop_assert!(range.clone().all(|group| a.contains(group) == x.contains(&group)));
            let (first, rest) = a.split_at(count);
            prop_assert_eq!(plain(&first), x.iter().copied().take(count as usize).collect::<BTreeSet<_>>());
            prop_assert_eq!(plain(&rest), x.iter().copied().skip(count as usize).collect::<BTreeSet<_>>());
            prop_assert_eq!(GroupSet::from_pairs(a.pairs()), Ok(a));
        }
    }
}
