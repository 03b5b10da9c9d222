//! Bounds of a relay: per link, per realm and in total where several share, so that no realm can fill another's.

use std::time::Duration;

use macula_wire::limits::{LINK_NOTICE_MAX, LINK_RETURN_MAX};

/// How much a relay holds, with defaults fit for production on a machine with a few GiB of memory.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Realms that this relay serves. A further one takes the place of the longest deserted realm, of which only stored
    /// values are left; when there is none, its join is refused.
    pub realms_max: usize,
    /// Realms joined on one link; the next join is refused.
    pub realms_per_link_max: usize,
    /// Subscriptions of one link; the next is refused.
    pub subscriptions_per_link_max: usize,
    /// Subscriptions of one realm; the next is refused.
    pub subscriptions_per_realm_max: usize,
    /// Subscriptions in all; the next is refused.
    pub subscriptions_max: usize,
    /// Offers of one link; the next is refused.
    pub offers_per_link_max: usize,
    /// Offers of one realm; the next is refused.
    pub offers_per_realm_max: usize,
    /// Offers in all; the next is refused.
    pub offers_max: usize,
    /// Contents that one link provides, counted once for each realm; the next are refused. Each costs about 200 bytes.
    pub contents_per_link_max: usize,
    /// Contents provided in all; the next are refused.
    pub contents_max: usize,
    /// Requests for content that are open for one link in each direction; the next waits.
    pub passages_per_link_max: usize,
    /// Requests for content that are passed on at a time. Each may hold 256 KiB.
    pub passages_max: usize,
    /// Bytes waiting for one link. When this is used up, subscriptions that hold more than an equal share of it drop
    /// their oldest for what comes; those below their share still get theirs, so that at most twice this can wait.
    pub queued_bytes_per_link_max: usize,
    /// Bytes waiting in one realm, a message counted once for each subscription it waits for; shared out like the
    /// link's.
    pub queued_bytes_per_realm_max: usize,
    /// Bytes waiting in all, counted in the same way: an upper bound, because queues share message bytes. When this is
    /// used up, realms that hold more than an equal share of it make room, and no other.
    pub queued_bytes_max: usize,
    /// Calls of one link that wait for an answer; the next is answered `not-run(unavailable)`.
    pub calls_per_link_max: usize,
    /// Calls of one realm that wait for an answer.
    pub calls_per_realm_max: usize,
    /// Calls in all that wait for an answer.
    pub calls_max: usize,
    /// Bytes of calls and answers waiting for one link; a provider beyond this is not chosen, a caller beyond this gets
    /// errors for answers, and a peer that asks for more when twice this waits is closed.
    pub call_bytes_per_link_max: usize,
    /// Stored last values of one realm, in number; a further topic is forwarded but not stored.
    pub retained_topics_per_realm_max: usize,
    /// Stored last values of one realm, in bytes. A value that does not fit is forwarded, and the one before forgotten.
    pub retained_bytes_per_realm_max: usize,
    /// Stored last values in all, in number. When used up, realms without members lose theirs, the longest deserted
    /// first; when there are none, the value is not stored.
    pub retained_topics_max: usize,
    /// Stored last values in all, in bytes; likewise.
    pub retained_bytes_max: usize,
    /// How long after its start the relay keeps messages for subscriptions that were in force before and are said again;
    /// longer than any host needs to find a restarted relay ([`LINK_RETURN_MAX`]). Zero keeps none.
    pub resume_window: Duration,
    /// How long of that receipts wait when there is no room to keep what they speak of: longer than a peer needs that is alive
    /// ([`LINK_NOTICE_MAX`]). Later they are given all the same, so that a relay under load does not stand still for those who
    /// are later than that; what they miss is counted.
    pub resume_promise: Duration,
    /// Bytes kept in one realm for them: the default is 15,000 messages of 150 bytes a second for the whole time. Beyond it
    /// messages are given up for which no receipt was given, the oldest first.
    pub resume_bytes_per_realm_max: usize,
    /// Bytes kept in all for them; likewise, of the realm that a message comes to.
    pub resume_bytes_max: usize,
    /// Longest that a full `block` subscription holds back receipts at a stretch.
    pub block_max: Duration,
    /// How often subscribers and publishers are told of drops.
    pub drop_report_interval: Duration,
    /// How often calls are looked through for passed deadlines. Callers keep their own time; this frees what they left.
    pub call_sweep_interval: Duration,
    /// Publishers without a link whose last sequence numbers are remembered, to recognise what is sent again.
    pub publishers_remembered_max: usize,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            realms_max: 16_384,
            realms_per_link_max: 64,
            subscriptions_per_link_max: 4096,
            subscriptions_per_realm_max: 65_536,
            subscriptions_max: 262_144,
            offers_per_link_max: 1024,
            offers_per_realm_max: 16_384,
            offers_max: 131_072,
            contents_per_link_max: 65_536,
            contents_max: 1_048_576,
            passages_per_link_max: 32,
            passages_max: 1024,
            queued_bytes_per_link_max: 64 << 20,
            queued_bytes_per_realm_max: 512 << 20,
            queued_bytes_max: 2 << 30,
            calls_per_link_max: 16_384,
            calls_per_realm_max: 65_536,
            calls_max: 262_144,
            call_bytes_per_link_max: 32 << 20,
            retained_topics_per_realm_max: 16_384,
            retained_bytes_per_realm_max: 64 << 20,
            retained_topics_max: 262_144,
            retained_bytes_max: 1 << 30,
            resume_window: LINK_RETURN_MAX,
            resume_promise: LINK_NOTICE_MAX,
            resume_bytes_per_realm_max: 128 << 20,
            resume_bytes_max: 512 << 20,
            block_max: Duration::from_secs(2),
            drop_report_interval: Duration::from_millis(250),
            call_sweep_interval: Duration::from_millis(250),
            publishers_remembered_max: 4096,
        }
    }
}
