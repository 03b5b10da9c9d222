//! Counters of a relay, for metrics and `status`.

/// Totals since start, and gauges. A snapshot is a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Links now.
    pub links: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Offers now.
    pub offers: u64,
    /// Contents provided now, counted once for each provider.
    pub contents: u64,
    /// Realms with a member or a stored value now.
    pub realms: u64,
    /// Bytes waiting in subscriptions' queues now, as counted against the bounds.
    pub queued_bytes: u64,
    /// Calls waiting for an answer now.
    pub calls_pending: u64,
    /// Messages taken from publishers.
    pub messages_in: u64,
    /// Messages handed to links, counted once per subscription.
    pub messages_out: u64,
    /// Messages that a subscription did not get because a queue was full, or because there was no room to keep them until
    /// it was back.
    pub messages_dropped: u64,
    /// Messages that waited for a subscription when it ended: with its link, because it was taken back, or with the right to
    /// it.
    pub messages_abandoned: u64,
    /// Messages recognised as sent twice.
    pub messages_duplicate: u64,
    /// Messages refused because they had passed too many relays.
    pub messages_looping: u64,
    /// Messages not forwarded because their publisher has no right to the topic.
    pub messages_denied: u64,
    /// Subscriptions, offers, channels and reads refused for lack of a right.
    pub denied: u64,
    /// Calls taken from callers.
    pub calls_in: u64,
    /// Calls answered without reaching a provider.
    pub calls_not_run: u64,
    /// Calls whose outcome is unknown.
    pub calls_maybe_run: u64,
    /// Retained values not stored because a realm's quota was used up.
    pub retained_refused: u64,
    /// Links closed for breaking the protocol.
    pub violations: u64,
}
