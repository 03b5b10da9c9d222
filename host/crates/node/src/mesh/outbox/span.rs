//! Messages by number: what was sent on a link and not confirmed when it was lost.

use std::collections::VecDeque;

/// Some messages of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Numbers of the first and last of them. Between there may be messages of other lanes.
    pub(super) first: u64,
    pub(super) last: u64,
    /// How many they are.
    pub(super) messages: u64,
}

/// Spans of one lane in their order, the oldest merged when there are more than [`SPANS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Spans(VecDeque<Span>);

/// Spans that are told apart. There is one for each confirmation that was under way when a link was lost.
const SPANS_MAX: usize = 64;

impl Span {
    pub(super) fn one(seq: u64) -> Self {
        Self { first: seq, last: seq, messages: 1 }
    }

    /// Adds what comes after.
    pub(super) fn extend(&mut self, later: Self) {
        self.last = later.last;
        self.messages += later.messages;
    }

    /// How many of them are numbered above `after` and up to `last`, or may be.
    fn within(&self, after: u64, last: u64) -> u64 {
        let (first, last) = (self.first.max(after.saturating_add(1)), self.last.min(last));
        self.messages.min((last + 1).saturating_sub(first))
    }
}

/// Adds what comes after; either may be nothing.
pub(super) fn extend(span: &mut Option<Span>, later: Option<Span>) {
    match (span.as_mut(), later) {
        (Some(span), Some(later)) => span.extend(later),
        (None, later) => *span = later,
        (Some(_), None) => {}
    }
}

impl Spans {
    pub(super) fn push(&mut self, span: Span) {
        self.0.push_back(span);
        if self.0.len() > SPANS_MAX
            && let Some(mut oldest) = self.0.pop_front()
            && let Some(next) = self.0.front_mut()
        {
            oldest.extend(*next);
            *next = oldest;
        }
    }

    /// How many messages are numbered above `after` and up to `last`. Of a span that lies on such a border as many are
    /// counted as may be meant.
    pub(super) fn messages(&self, after: u64, last: u64) -> u64 {
        self.0.iter().map(|span| span.within(after, last)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_number_and_spans_are_bounded() {
        let mut spans = Spans::default();
        for n in 0..100 {
            spans.push(Span { first: 10 * n + 1, last: 10 * n + 5, messages: 3 });
        }
        assert_eq!(spans.0.len(), SPANS_MAX);
        assert_eq!(spans.messages(0, 1000), 300, "none is lost by merging");
        assert_eq!(spans.messages(980, 1000), 6);
        assert_eq!(spans.messages(990, 991), 1, "one number is one message");
        assert_eq!(spans.messages(995, 1000), 0);
        assert_eq!(spans.messages(u64::MAX, u64::MAX), 0);
    }
}
