//! The time of this process: one for everything that asks whether something has begun or expired.
//!
//! Reads the machine's two clocks and has a [`Timekeeper`] tell the time by them; see [`macula_auth`] for how. Until
//! [`begin`] has named a home, it goes by the clocks alone. A running node keeps the floor in its home
//! ([`KeptClock`]), and takes part when a person resets it. What a clock does that somebody should know of is written to the log
//! under `macula_audit`. The file is `home/clock.rs`'s.

use std::{
    io,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use macula_auth::{AHEAD_PATIENCE, ClockEvent, Moment, Reading, STEP_MAX, Timekeeper};
use parking_lot::Mutex;

use crate::{Home, HomeError, home::StoredClock};

/// How often the clocks are looked at, and the file, in which a person may have reset the floor.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the floor is stored, at most: so much time may come again after a crash, with a clock that was set back.
const STORE_INTERVAL: Duration = Duration::from_secs(60);
/// The same while the wall clock is behind: the commands of this home go by what is stored then, and must not be late.
const STORE_INTERVAL_BEHIND: Duration = Duration::from_secs(5);

/// A process has one time, as it has one pair of clocks.
static KEEPER: Mutex<Option<Timekeeper>> = Mutex::new(None);

/// Seconds since 1970-01-01 UTC, by the time that rights are held against.
pub fn unix_now() -> u64 {
    now().unix
}

/// What the machine's wall clock says, in seconds since 1970-01-01 UTC: for asking whether that is right.
pub fn wall_now() -> u64 {
    read().wall.as_secs()
}

pub(crate) fn now() -> Moment {
    told(|keeper, reading| keeper.tell(reading))
}

/// What time it would be if a wall clock were followed that has jumped ahead.
pub(crate) fn ahead() -> Option<Moment> {
    told(|keeper, reading| keeper.ahead(reading))
}

/// Somebody who has a right in the realm has signed that it is at least `signed`.
pub(crate) fn confirm(signed: u64) {
    told(|keeper, reading| keeper.confirm(signed, reading));
}

/// From now on, the time is never before what `home` has seen, nor before `built`, when the program was made (unix seconds).
///
/// # Errors
/// When what the home has kept cannot be read.
pub fn begin(home: &Home, built: u64) -> Result<(), HomeError> {
    let floor = home.clock()?.floor.max(built);
    *KEEPER.lock() = Some(Timekeeper::new(floor, read()));
    Ok(())
}

fn told<T>(tell: impl FnOnce(&mut Timekeeper, Reading) -> T) -> T {
    let mut keeper = KEEPER.lock();
    let reading = read();
    tell(keeper.get_or_insert_with(|| Timekeeper::new(0, reading)), reading)
}

fn read() -> Reading {
    Reading { wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), running: running() }
}

/// The clock that only runs, also while the machine sleeps: sleep is no jump of the wall clock.
#[cfg(target_os = "linux")]
fn running() -> Duration {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, and that is here for as long as it takes.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut at) };
    assert_eq!(outcome, 0, "Linux has had CLOCK_BOOTTIME since 2.6.39");
    Duration::new(at.tv_sec.unsigned_abs(), at.tv_nsec.unsigned_abs() as u32)
}

/// The clock that only runs. Sleep of the machine may look like a jump, and is followed as one.
#[cfg(not(target_os = "linux"))]
fn running() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Keeps the floor on disk for as long as it lives, on a thread of its own.
#[derive(Debug)]
pub struct KeptClock {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KeptClock {
    /// Begins; [`begin`] with the same home comes first.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(home: &Home) -> io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let mut keeping = Keeping { home: home.clone(), resets: None, stored: running(), is_failing: false };
        let thread = std::thread::Builder::new().name("macula-clock".into()).spawn(move || {
            keeping.look();
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                keeping.look();
            }
            keeping.store();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for KeptClock {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported.
            let _ = thread.join();
        }
    }
}

struct Keeping {
    home: Home,
    /// How often the clock had been reset when it was looked at last.
    resets: Option<u64>,
    /// When the floor was stored last, by the running clock.
    stored: Duration,
    is_failing: bool,
}

impl Keeping {
    fn look(&mut self) {
        let (events, interval): (Vec<ClockEvent>, Duration) = told(|keeper, reading| {
            let is_behind = keeper.tell(reading).unix > (reading.wall + STEP_MAX).as_secs();
            let interval = if is_behind { STORE_INTERVAL_BEHIND } else { STORE_INTERVAL };
            (std::iter::from_fn(|| keeper.poll_event()).collect(), interval)
        });
        events.iter().for_each(log);
        match self.home.clock() {
            Ok(stored) => self.follow(&stored),
            Err(error) => self.failed(&error),
        }
        if running().saturating_sub(self.stored) >= interval {
            self.store();
        }
    }

    /// A person may have reset the clock: while this runs, or since a node last ran.
    fn follow(&mut self, stored: &StoredClock) {
        let before = self.resets.replace(stored.resets);
        let is_new = before.map_or(stored.audited < stored.resets, |before| before != stored.resets);
        if !is_new {
            return;
        }
        if before.is_some() {
            told(Timekeeper::reset);
        }
        let (from, to) = (stored.reset_from, stored.floor);
        tracing::warn!(
            target: "macula_audit", event = "clock",
            what = format_args!("reset from {from} to {to} (unix): what expired in between may be taken again")
        );
        let audited = self.home.update_clock(|clock| clock.audited = clock.audited.max(stored.resets));
        audited.map_or_else(|error| self.failed(&error), drop);
    }

    fn store(&mut self) {
        let floor = told(|keeper, reading| {
            keeper.tell(reading);
            keeper.floor()
        });
        let known = self.resets.unwrap_or_default();
        // One that was reset a moment ago is looked at first.
        let raise = |clock: &mut StoredClock| {
            if clock.resets == known {
                clock.floor = clock.floor.max(floor);
            }
        };
        match self.home.update_clock(raise) {
            Ok(_) => self.is_failing = false,
            Err(error) => self.failed(&error),
        }
        self.stored = running();
    }

    /// Said once: the time goes on all the same.
    fn failed(&mut self, error: &HomeError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "the time that this node has seen is not kept over a restart");
        }
    }
}

fn log(event: &ClockEvent) {
    const SET: &str = "if the clock is right, run: macula-host clock reset; otherwise set it";
    match event {
        ClockEvent::Behind(by) => tracing::warn!(
            target: "macula_audit", event = "clock",
            what = format_args!("behind by {} s what this home has seen, and not followed; {SET}", by.as_secs())
        ),
        ClockEvent::Ahead(by) => tracing::warn!(
            target: "macula_audit", event = "clock",
            what = format_args!(
                "jumped ahead by {} s; followed in {} min if it stays there, or when something signed confirms it",
                by.as_secs(),
                AHEAD_PATIENCE.as_secs() / 60
            )
        ),
        ClockEvent::Followed(by) => tracing::warn!(
            target: "macula_audit", event = "clock",
            what = format_args!("{} s ahead, and followed from now on", by.as_secs())
        ),
        ClockEvent::Agrees => tracing::info!(target: "macula_audit", event = "clock", what = "as it should be again"),
    }
}
