//! Which of a name's addresses is tried when, so that one that does not answer holds nobody up (RFC 8305).
//!
//! Families take turns, and each attempt has a head start on the next. The first that comes about wins and the others are
//! given up. Addresses that failed, or had not answered when a later one did, come last the next time.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures::{FutureExt, StreamExt, future::pending, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

/// Head start of each attempt on the next (RFC 8305 section 8, “Connection Attempt Delay”). One that fails gives up the rest
/// of it.
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried at a time; further ones are not.
const ADDRESSES_MAX: usize = 8;
/// Addresses that are remembered to have failed. Beyond it the oldest are forgotten.
const FAILED_MAX: usize = 64;

/// Addresses that failed when they were last tried, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Failed(VecDeque<SocketAddr>);

/// How a race has gone so far; left behind when its future is dropped.
#[derive(Debug)]
pub(crate) struct Race<E> {
    /// Those that were tried, in this order.
    pub(crate) tried: Vec<SocketAddr>,
    /// Those of them that failed, and why.
    pub(crate) failed: Vec<(SocketAddr, E)>,
}

impl Failed {
    /// In which order to try addresses, given in the system's order.
    pub(crate) fn order(&self, addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let mut distinct: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            if !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        let (last, first) = distinct.into_iter().partition(|address| self.0.contains(address));
        let mut order = taking_turns(first);
        order.extend(taking_turns(last));
        order.truncate(ADDRESSES_MAX);
        order
    }

    /// Remembers how a race went.
    pub(crate) fn note<E>(&mut self, race: &Race<E>, winner: Option<SocketAddr>) {
        self.0.retain(|address| !race.tried.contains(address));
        let before_winner = race.tried.iter().take_while(|address| Some(**address) != winner);
        let failed_later = race.failed.iter().map(|(address, _)| address).filter(|address| Some(**address) != winner);
        for address in before_winner.chain(failed_later) {
            if !self.0.contains(address) {
                self.0.push_back(*address);
            }
        }
        while self.0.len() > FAILED_MAX {
            self.0.pop_front();
        }
    }
}

/// Families in turns, beginning with that of the first.
fn taking_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == begins_with_v4);
    let mut families = [first, second];
    let mut order = Vec::new();
    while families.iter().any(|family| !family.is_empty()) {
        order.extend(families.iter_mut().filter_map(VecDeque::pop_front));
    }
    order
}

impl<E> Race<E> {
    pub(crate) fn new() -> Self {
        Self { tried: Vec::new(), failed: Vec::new() }
    }

    /// Runs to the first success; `None` when every address has failed.
    pub(crate) async fn run<T, F: Future<Output = Result<T, E>>>(
        &mut self,
        addresses: Vec<SocketAddr>,
        attempt: impl Fn(SocketAddr) -> F,
    ) -> Option<(SocketAddr, T)> {
        let mut waiting = VecDeque::from(addresses);
        let mut attempts = FuturesUnordered::new();
        let mut next_at = Instant::now();
        loop {
            let next = match waiting.is_empty() {
                false => sleep_until(next_at).left_future(),
                true if attempts.is_empty() => return None,
                true => pending().right_future(),
            };
            tokio::select! {
                Some((address, outcome)) = attempts.next() => match outcome {
                    Ok(won) => return Some((address, won)),
                    Err(error) => {
                        self.failed.push((address, error));
                        next_at = Instant::now();
                    }
                },
                () = next => if let Some(address) = waiting.pop_front() {
                    self.tried.push(address);
                    attempts.push(attempt(address).map(move |outcome| (address, outcome)));
                    next_at = Instant::now() + HEAD_START;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_what_failed_comes_last() {
        let mut failed = Failed::default();
        let all = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]);
        let in_turns = addresses(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]);
        assert_eq!(failed.order(all.clone()), in_turns);
        let race = Race { tried: in_turns[..3].to_vec(), failed: vec![(in_turns[2], ())] };
        failed.note(&race, Some(in_turns[1]));
        let expected = addresses(&["[::3]:1", "1.0.0.1:1", "1.0.0.2:1", "[::1]:1", "[::2]:1"]);
        assert_eq!(failed.order(all.clone()), expected, "what was slower than a later one, and what failed");
        failed.note(&Race { tried: in_turns, failed: Vec::<(SocketAddr, ())>::new() }, Some(all[0]));
        assert_eq!(failed.order(all)[0].to_string(), "[::1]:1", "until it works again");
        for n in 0..1000 {
            let address = SocketAddr::from(([1, 1, 1, 1], n));
            failed.note(&Race { tried: vec![address], failed: vec![(address, ())] }, None);
        }
        assert_eq!(failed.0.len(), FAILED_MAX);
    }

    /// Goal: an address that does not answer costs its head start and no more; one that fails costs nothing.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_who_does_not_answer() {
        let all = addresses(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1"]);
        let begin = Instant::now();
        let order = all.clone();
        let attempt = |address: SocketAddr| {
            let all = &order;
            async move {
                match address {
                    address if address == all[0] => pending().await,
                    address if address == all[1] => Err("refused"),
                    address if address == all[2] => {
                        sleep(Duration::from_millis(300)).await;
                        Ok("slow")
                    }
                    _ => {
                        sleep(Duration::from_millis(20)).await;
                        Ok("quick")
                    }
                }
            }
        };
        let mut race = Race::new();
        let won = race.run(all.clone(), attempt).await;
        // 250 ms for the first, none for the second, 250 ms for the third, and what the fourth takes.
        assert_eq!(won, Some((all[3], "quick")));
        assert_eq!(begin.elapsed(), Duration::from_millis(520));
        assert_eq!(race.failed, [(all[1], "refused")]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_all_are_named_also_when_time_runs_out() {
        let all = addresses(&["[::1]:1", "1.0.0.1:1"]);
        let mut race = Race::new();
        let failing = |address: SocketAddr| async move { Err::<(), _>(address.port()) };
        assert_eq!(race.run(all.clone(), failing).await, None);
        assert_eq!(race.failed, [(all[0], 1), (all[1], 1)]);
        let mut race = Race::new();
        let half =
            |address: SocketAddr| async move { if address.is_ipv4() { Err::<(), _>(1) } else { pending().await } };
        assert!(timeout(Duration::from_secs(10), race.run(all.clone(), half)).await.is_err());
        assert_eq!((race.tried, race.failed), (all.clone(), vec![(all[1], 1)]));
    }
}
