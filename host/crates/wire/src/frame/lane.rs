//! Lanes: the unidirectional streams of a link, one of each in each direction, opened when first used.

/// A stream of frames. Order is kept within a lane and nowhere else; a lost packet holds up its own lane only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// Messages of high priority.
    High = 0,
    /// Messages of normal priority.
    Normal = 1,
    /// Messages of low priority.
    Low = 2,
    /// Messages of which only the newest of a topic counts.
    Latest = 3,
    /// Calls and answers up to 64 KiB, receipts and credit.
    Calls = 4,
    /// Calls and answers above 64 KiB, so that they do not hold up the small ones.
    Bulk = 5,
}

impl Lane {
    /// How many lanes there are.
    pub const COUNT: usize = 6;

    /// All lanes, those to be served first first.
    pub const ALL: [Self; Self::COUNT] = [Self::High, Self::Calls, Self::Latest, Self::Normal, Self::Bulk, Self::Low];

    /// Calls and answers with a payload above this travel on [`Lane::Bulk`].
    pub const CALL_BYTES_MAX: usize = 64 << 10;

    /// The lane with this number, as it stands at the beginning of a stream.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u8 == number)
    }

    /// Where the lane stands in tables of [`Lane::COUNT`] entries.
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The lane for a call or an answer of this size.
    #[inline]
    pub fn for_call(payload_bytes: usize) -> Self {
        if payload_bytes > Self::CALL_BYTES_MAX { Self::Bulk } else { Self::Calls }
    }

    /// Whether it carries messages (rather than calls).
    pub fn carries_messages(self) -> bool {
        !matches!(self, Self::Calls | Self::Bulk)
    }

    /// Priority among the streams of a connection: the higher, the earlier.
    pub fn stream_priority(self) -> i32 {
        match self {
            Self::High => 3,
            Self::Calls => 2,
            Self::Latest => 1,
            Self::Normal => 0,
            Self::Bulk => -1,
            Self::Low => -2,
        }
    }
}

impl From<crate::Priority> for Lane {
    fn from(priority: crate::Priority) -> Self {
        match priority {
            crate::Priority::High => Self::High,
            crate::Priority::Normal => Self::Normal,
            crate::Priority::Low => Self::Low,
        }
    }
}
