use std::{collections::HashMap, sync::Mutex};

use bytes::Bytes;
use macula_wire::{ContentType, NodeId, PluginName};

use super::*;

const S: Duration = Duration::from_secs(1);

/// An inbox that a test fills.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<(VecDeque<Message>, Option<Waker>)>>);

impl Pipe {
    fn push(&self, message: Message) {
        let mut pipe = self.0.lock().unwrap();
        pipe.0.push_back(message);
        if let Some(waker) = pipe.1.take() {
            waker.wake();
        }
    }
}

impl Inbox for Pipe {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut pipe = self.0.lock().unwrap();
        match pipe.0.pop_front() {
            Some(message) => Poll::Ready(Some(message)),
            None => {
                pipe.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
    fn dropped(&self) -> u64 {
        0
    }
    fn queued(&self) -> u32 {
        u32::try_from(self.0.lock().unwrap().0.len()).unwrap()
    }
}

fn publisher() -> NodeId {
    "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().unwrap()
}

fn message(topic: &str, seq: u64) -> Message {
    Message {
        topic: topic.parse().unwrap(),
        payload: Bytes::new(),
        content_type: ContentType::EMPTY,
        publisher: publisher(),
        plugin: PluginName::EMPTY,
        epoch: 1,
        seq,
        timestamp_ms: 0,
        retained: false,
        cause_depth: 0,
        metadata: None,
        traceparent: None,
        tracestate: None,
    }
}

fn mailbox(shards: u32) -> (Mailbox, Pipe) {
    let mut mailbox = Mailbox::new(shards, 8);
    let pipe = Pipe::default();
    mailbox.add_manifest_subscription("**".parse().unwrap(), Box::new(pipe.clone()));
    (mailbox, pipe)
}

fn next(mailbox: &mut Mailbox, shard: usize, now: Instant) -> Option<Delivery> {
    match mailbox.next(shard, || now) {
        Some(Work::Deliver(delivery)) => Some(delivery),
        Some(Work::Bury(..)) => panic!("nothing is to be buried"),
        Some(Work::Answer { .. } | Work::Tick(_)) => panic!("there are only messages"),
        None => None,
    }
}

#[test]
fn order_holds_behind_a_retry() {
    let (mut mailbox, pipe) = mailbox(1);
    let start = Instant::now();
    for (topic, seq) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
        pipe.push(message(topic, seq));
    }
    let first = next(&mut mailbox, 0, start).unwrap();
    assert!(matches!(mailbox.retry(first, Some(S), start), Retry::Scheduled));
    assert_eq!(next(&mut mailbox, 0, start).unwrap().message.seq, 3, "another topic goes on");
    assert!(next(&mut mailbox, 0, start).is_none());
    assert_eq!(mailbox.held_messages(), 3);
    assert_eq!(mailbox.next_due(0), Some(start + S));

    let again = next(&mut mailbox, 0, start + S).unwrap();
    assert_eq!((again.message.seq, again.attempt), (1, 2));
    mailbox.settle(&again);
    // The second fails as well: the fourth must still wait for it.
    let second = next(&mut mailbox, 0, start + S).unwrap();
    assert_eq!((second.message.seq, second.attempt), (2, 1));
    assert!(matches!(mailbox.retry(second, Some(S), start + S), Retry::Scheduled));
    assert!(next(&mut mailbox, 0, start + S).is_none());
    let second = next(&mut mailbox, 0, start + 2 * S).unwrap();
    mailbox.settle(&second);
    assert_eq!(next(&mut mailbox, 0, start + 2 * S).unwrap().message.seq, 4);
    assert_eq!((mailbox.held_messages(), mailbox.next_due(0)), (0, None));
}

#[test]
fn looking_for_work_changes_no_order() {
    let (mut mailbox, pipe) = mailbox(1);
    let start = Instant::now();
    assert!(!mailbox.has_work(0, start));
    for (topic, seq) in [("a", 1), ("a", 2), ("b", 3)] {
        pipe.push(message(topic, seq));
    }
    assert!(mailbox.has_work(0, start) && mailbox.has_work(0, start));
    let first = next(&mut mailbox, 0, start).unwrap();
    assert_eq!(first.message.seq, 1);
    assert!(matches!(mailbox.retry(first, Some(S), start), Retry::Scheduled));
    assert!(mailbox.has_work(0, start), "another topic goes on");
    assert_eq!(next(&mut mailbox, 0, start).unwrap().message.seq, 3);
    assert!(!mailbox.has_work(0, start), "what waits for a retry is not due");
    assert!(mailbox.has_work(0, start + S));
    let again = next(&mut mailbox, 0, start + S).unwrap();
    mailbox.settle(&again);
    assert!(mailbox.has_work(0, start + S));
    assert_eq!(next(&mut mailbox, 0, start + S).unwrap().message.seq, 2);
    assert!(!mailbox.has_work(0, start + S));
}

#[test]
fn delays_grow_and_attempts_end() {
    let (mut mailbox, pipe) = mailbox(1);
    let mut now = Instant::now();
    pipe.push(message("a", 1));
    let mut delays = Vec::new();
    loop {
        let delivery = next(&mut mailbox, 0, now).unwrap();
        match mailbox.retry(delivery, None, now) {
            Retry::Scheduled => {
                let due = mailbox.next_due(0).unwrap();
                delays.push((due - now).as_millis());
                now = due;
            }
            Retry::GiveUp(delivery, reason) => {
                assert_eq!((delivery.attempt, reason.as_str()), (5, "5 attempts failed"));
                mailbox.settle(&delivery);
                break;
            }
        }
    }
    assert_eq!(delays, [200, 400, 800, 1600]);
    assert_eq!(mailbox.held_messages(), 0);
}

#[test]
fn thirty_seconds_are_the_end() {
    let (mut mailbox, pipe) = mailbox(1);
    let start = Instant::now();
    pipe.push(message("a", 1));
    let delivery = next(&mut mailbox, 0, start).unwrap();
    assert!(matches!(mailbox.retry(delivery, Some(3600 * S), start), Retry::Scheduled));
    assert_eq!(mailbox.next_due(0), Some(start + 30 * S));
    let delivery = next(&mut mailbox, 0, start + 30 * S).unwrap();
    assert!(matches!(mailbox.retry(delivery, None, start + 30 * S), Retry::GiveUp(..)));
}

#[test]
fn nothing_is_taken_while_too_much_is_held() {
    let (mut mailbox, pipe) = mailbox(1);
    let now = Instant::now();
    for seq in 0..2000 {
        pipe.push(message(&format!("t{seq}"), seq));
    }
    let mut taken = 0;
    while let Some(delivery) = next(&mut mailbox, 0, now) {
        assert!(matches!(mailbox.retry(delivery, Some(S), now), Retry::Scheduled));
        taken += 1;
    }
    assert_eq!(taken, HELD_MESSAGES_MAX);
    assert_eq!(pipe.queued() as usize, 2000 - HELD_MESSAGES_MAX);
}

#[test]
fn shards_get_their_topics_and_wait_for_slow_ones() {
    let (mut mailbox, pipe) = mailbox(2);
    let now = Instant::now();
    let mine = |mailbox: &Mailbox, shard| {
        (0..)
            .map(|number| format!("t{number}"))
            .find(|topic| mailbox.shard_of(&topic.parse().unwrap()) == shard)
            .unwrap()
    };
    let (first, second) = (mine(&mailbox, 0), mine(&mailbox, 1));
    for seq in 0..100 {
        pipe.push(message(&second, seq));
    }
    pipe.push(message(&first, 100));
    // Shard 0 takes for shard 1 what fits, and stops there: its own message is behind.
    assert!(next(&mut mailbox, 0, now).is_none());
    assert_eq!(mailbox.held_messages(), READY_MAX);
    let mut seen = Vec::new();
    while let Some(delivery) = next(&mut mailbox, 1, now) {
        seen.push(delivery.message.seq);
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert_eq!(next(&mut mailbox, 0, now).unwrap().message.seq, 100);
}

#[test]
fn only_streams_that_called_are_asked() {
    let (mut mailbox, pipe) = mailbox(1);
    let now = Instant::now();
    assert!(next(&mut mailbox, 0, now).is_none());
    assert!(pipe.0.lock().unwrap().1.is_some(), "asked once, and it will call");
    pipe.0.lock().unwrap().0.push_back(message("a", 1));
    assert!(next(&mut mailbox, 0, now).is_none(), "it has not called");
    pipe.push(message("a", 2));
    assert_eq!(next(&mut mailbox, 0, now).unwrap().message.seq, 1);
}

#[test]
fn inboxes_take_turns() {
    let (mut mailbox, pipe) = mailbox(1);
    let other = Pipe::default();
    mailbox.add_subscription(0, 7, "other".parse().unwrap(), Box::new(other.clone()));
    for seq in 0..10 {
        pipe.push(message("a", seq));
        other.push(message("b", seq));
    }
    let now = Instant::now();
    let order: Vec<u32> = std::iter::from_fn(|| next(&mut mailbox, 0, now)).map(|one| one.subscription).collect();
    let counts = order.iter().fold(HashMap::new(), |mut counts: HashMap<u32, u32>, id| {
        *counts.entry(*id).or_default() += 1;
        counts
    });
    assert_eq!(counts, HashMap::from([(0, 10), (7, 10)]));
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
}

#[test]
fn claims_of_shards_keep_a_subscription() {
    let mut mailbox = Mailbox::new(2, 8);
    let pattern: Pattern = "x".parse().unwrap();
    mailbox.add_subscription(0, 1, pattern.clone(), Box::new(Pipe::default()));
    assert_eq!(mailbox.join_subscription(1, &pattern), Joined::Yes(1));
    mailbox.leave_subscription(0, 1);
    assert_eq!(mailbox.subscription_count(), 1);
    mailbox.keep_only(1, |_| false, |_| false);
    assert_eq!(mailbox.subscription_count(), 0);
}

#[test]
fn draining_takes_nothing_new_and_finishes_the_rest() {
    let (mut mailbox, pipe) = mailbox(1);
    let now = Instant::now();
    pipe.push(message("a", 1));
    pipe.push(message("a", 2));
    let first = next(&mut mailbox, 0, now).unwrap();
    assert!(matches!(mailbox.retry(first, Some(20 * S), now), Retry::Scheduled));
    assert!(next(&mut mailbox, 0, now).is_none());
    mailbox.drain(now);
    pipe.push(message("b", 3));
    let first = next(&mut mailbox, 0, now).unwrap();
    assert_eq!(first.attempt, 2);
    mailbox.settle(&first);
    assert_eq!(next(&mut mailbox, 0, now).unwrap().message.seq, 2);
    assert!(next(&mut mailbox, 0, now).is_none());
    let left = mailbox.close();
    // The third came too late to be taken.
    assert_eq!((left.taken.len(), left.untaken), (0, 1));
}

#[test]
fn what_was_in_hand_is_next_again_with_those_behind_it_in_order() {
    let (mut mailbox, pipe) = mailbox(1);
    let now = Instant::now();
    pipe.push(message("a", 1));
    pipe.push(message("a", 2));
    let first = next(&mut mailbox, 0, now).unwrap();
    mailbox.put_back(0, first, now);
    let first = next(&mut mailbox, 0, now).unwrap();
    assert_eq!((first.message.seq, first.attempt), (1, 1));
    // The same when it has been tried before, and others wait behind it.
    assert!(matches!(mailbox.retry(first, Some(S), now), Retry::Scheduled));
    assert!(next(&mut mailbox, 0, now).is_none());
    let first = next(&mut mailbox, 0, now + S).unwrap();
    mailbox.put_back(0, first, now + S);
    assert_eq!(mailbox.held_messages(), 2);
    let first = next(&mut mailbox, 0, now + S).unwrap();
    assert_eq!((first.message.seq, first.attempt), (1, 2));
    assert!(next(&mut mailbox, 0, now + S).is_none());
    mailbox.settle(&first);
    assert_eq!(next(&mut mailbox, 0, now + S).unwrap().message.seq, 2);
    assert_eq!(mailbox.held_messages(), 0);
}
