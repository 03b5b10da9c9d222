//! Content from providers behind slow lines: 100 Mbit/s and 10 ms each way, for each of them.
//!
//! A line is a process that passes datagrams on between a provider and the relay, so it needs no rights and no kernel module:
//! it holds each back for the delay, and for as long as those before it take at the rate. What would wait for longer than a
//! quarter of a second is dropped, as a router does.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use tokio::net::UdpSocket;

use crate::{
    content::Fetched,
    process::{Process, say},
    table::Table,
};

/// Bytes a second: 100 Mbit/s.
const RATE: f64 = 12.5e6;
/// One way.
const DELAY: Duration = Duration::from_millis(10);
/// Longest that a datagram waits for those before it.
const QUEUE: Duration = Duration::from_millis(250);
/// Of an Ethernet frame beside the datagram.
const OVERHEAD: usize = 46;

#[derive(Args)]
pub(crate) struct Line {
    /// Where it leads.
    #[arg(long)]
    to: SocketAddr,
}

/// One direction.
struct Direction {
    waiting: VecDeque<(Instant, Vec<u8>)>,
    /// When what was sent last has left.
    free_at: Instant,
}

impl Direction {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), free_at: Instant::now() }
    }

    fn take(&mut self, datagram: &[u8]) {
        let now = Instant::now();
        let begins = self.free_at.max(now);
        if begins - now > QUEUE {
            return;
        }
        self.free_at = begins + Duration::from_secs_f64((datagram.len() + OVERHEAD) as f64 / RATE);
        self.waiting.push_back((self.free_at + DELAY, datagram.to_vec()));
    }

    fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let is_due = self.due().is_some_and(|due| due <= Instant::now());
        if is_due { self.waiting.pop_front().map(|(_, datagram)| datagram) } else { None }
    }
}

impl Line {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (near, far) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
        far.connect(self.to).await?;
        say(&near.local_addr()?.to_string())?;
        let (mut out, mut back) = (Direction::new(), Direction::new());
        let (mut one, mut other) = (vec![0; 65_536], vec![0; 65_536]);
        let mut provider = None;
        loop {
            while let Some(datagram) = out.pop() {
                far.send(&datagram).await?;
            }
            while let (Some(provider), Some(datagram)) = (provider, back.pop()) {
                near.send_to(&datagram, provider).await?;
            }
            let due = [out.due(), back.due()].into_iter().flatten().min();
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            tokio::select! {
                Ok((len, from)) = near.recv_from(&mut one) => {
                    provider = Some(from);
                    out.take(&one[..len]);
                }
                Ok(len) = far.recv(&mut other) => back.take(&other[..len]),
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }
}

/// Seconds that it takes to fetch all of it from so many honest providers, and so many that spoil every group.
fn fetch(honest: usize, corrupt: usize) -> anyhow::Result<f64> {
    let home = tempfile::tempdir()?;
    let mut relay = Process::start(home.path(), None, &["relay"])?;
    let url: String = relay.hear()?;
    let (address, id) = url.split_once('#').context("a pinned address")?;
    let address = address.trim_start_matches("quic://");
    let (mut lines, mut providers, mut mcid) = (Vec::new(), Vec::new(), String::new());
    for number in 0..honest + corrupt {
        let mut line = Process::start(home.path(), None, &["line", "--to", address])?;
        let near: String = line.hear()?;
        let role: &[&str] = if number < honest { &["content-provider"] } else { &["content-provider", "--corrupt"] };
        let mut provider = Process::start(home.path(), Some(&format!("quic://{near}#{id}")), role)?;
        mcid = provider.hear()?;
        lines.push(line);
        providers.push(provider);
    }
    let mut fetcher = Process::start(home.path(), Some(&url), &["fetcher", "--content", &mcid])?;
    let fetched: Fetched = fetcher.hear()?;
    Ok(fetched.seconds)
}

pub(crate) fn measure(table: &mut Table) -> anyhow::Result<()> {
    let one = fetch(1, 0)?;
    let (three, four, spoiled) = (fetch(3, 0)?, fetch(4, 0)?, fetch(3, 1)?);
    let times = |seconds: f64| format!("{:.2}× one ({seconds:.1} s)", one / seconds);
    table.add("1 GiB from one provider at 100 Mbit/s and 20 ms", format!("{one:.1} s"), "");
    table.add("from three", times(three), "");
    table.add("from four", times(four), "goal 3.5×");
    let cost = format!("{}; {:+.1} % beside three", times(spoiled), (spoiled / three - 1.0) * 100.0);
    table.add("from four of which one spoils everything", cost, "goal 5 %");
    Ok(())
}
