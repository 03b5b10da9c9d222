//! The time that rights are held against: one for all who ask, and never one that brings back what has expired.
//!
//! A machine has two clocks. The *wall clock* tells the date, and can be wrong, or be set. The *running clock* tells how long
//! it has been since some moment, goes on while the machine sleeps, and cannot be set. A [`Timekeeper`] tells the time by both:
//!
//! - It begins at the wall clock, or at the floor that an earlier run has left, whichever is later.
//! - It never goes back. A wall clock that was set back is left behind, and the running clock goes on from where it was.
//! - It follows a wall clock that jumps ahead only after [`AHEAD_PATIENCE`], or as far as a signed time says. What is
//!   within [`STEP_MAX`] is no jump: clocks are corrected.
//! - Its [floor](Timekeeper::floor) is what the next run begins at, at the least. A time that has been told for less than the
//!   patience does not raise it: a clock that was wrong for a moment locks nobody out. Only [`Timekeeper::reset`] lowers it.
//!
//! Pure: both clocks come in as a [`Reading`]. Specified in `docs/operating/permissions.md`, “The clock”.

use std::time::Duration;

/// How long a wall clock has to be ahead before it is followed: long enough for a time service to put it right.
pub const AHEAD_PATIENCE: Duration = Duration::from_secs(600);

/// Differences between the clocks that are no jump, and as much again in every [`AHEAD_PATIENCE`].
pub const STEP_MAX: Duration = Duration::from_secs(60);

/// A moment by both clocks: what expires is held against the date, and patience against the clock that only runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970-01-01 UTC, as a [`Timekeeper`] tells them.
    pub unix: u64,
    /// Since some moment that stays the same for as long as the program runs.
    pub running: Duration,
}

impl Moment {
    /// The moment where both clocks say the same: for those who have one clock only, such as tests.
    pub const fn at(unix: u64) -> Self {
        Self { unix, running: Duration::from_secs(unix) }
    }
}

/// What both clocks of a machine say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Since 1970-01-01 UTC.
    pub wall: Duration,
    /// Since some moment that stays the same for as long as the program runs.
    pub running: Duration,
}

/// What a wall clock has done that somebody should know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockEvent {
    /// It is behind by more than [`STEP_MAX`], and is not followed.
    Behind(Duration),
    /// It is ahead by more than [`STEP_MAX`], and is followed later.
    Ahead(Duration),
    /// It was ahead by so much, and is followed from now on.
    Followed(Duration),
    /// It is as it should be again.
    Agrees,
}

/// Where the wall clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Followed,
    Behind,
    /// Ahead since `since` of the running clock, when it was ahead of that by `lead`.
    Ahead {
        since: Duration,
        lead: Duration,
    },
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Timekeeper {
    /// What was told last, and when by the running clock.
    told: Duration,
    at: Duration,
    trust: Trust,
    /// What the wall clock may still be put ahead without being thought to jump.
    steps_left: Duration,
    /// The floor at `floor_at` of the running clock; it rises with that.
    floor: Duration,
    floor_at: Duration,
    /// Since when what is told has not leapt, by the running clock.
    steady_since: Duration,
    events: Vec<ClockEvent>,
}

/// Events that wait to be taken; the oldest are dropped. Whoever drives this takes them each time.
const EVENTS_MAX: usize = 16;

impl Timekeeper {
    /// Begins at what the wall clock says, or at `floor` (unix seconds), whichever is later.
    pub fn new(floor: u64, reading: Reading) -> Self {
        let floor = Duration::from_secs(floor);
        let told = reading.wall.max(floor);
        let mut keeper = Self {
            told,
            at: reading.running,
            trust: Trust::Followed,
            steps_left: STEP_MAX,
            floor,
            floor_at: reading.running,
            steady_since: reading.running,
            events: Vec::new(),
        };
        keeper.tell(reading);
        keeper
    }

    /// What time it is.
    pub fn tell(&mut self, reading: Reading) -> Moment {
        let passed = reading.running.saturating_sub(self.at);
        self.at = self.at.max(reading.running);
        self.steps_left = STEP_MAX.min(self.steps_left + passed.mul_f64(STEP_MAX.div_duration_f64(AHEAD_PATIENCE)));
        let expected = self.told + passed;
        match reading.wall.checked_sub(expected) {
            None => self.wall_is_behind(expected - reading.wall, expected, passed),
            Some(lead) if lead <= self.steps_left => {
                self.steps_left -= lead;
                self.told = reading.wall;
                self.set_trust(Trust::Followed);
            }
            Some(lead) => self.wall_is_ahead(lead, expected, reading),
        }
        self.moment()
    }

    /// Somebody who may be trusted has signed that it is at least `signed` (unix seconds). As far as that, a wall clock that
    /// is ahead is followed at once.
    pub fn confirm(&mut self, signed: u64, reading: Reading) {
        self.tell(reading);
        let Trust::Ahead { .. } = self.trust else { return };
        let confirmed = Duration::from_secs(signed).min(reading.wall);
        if confirmed > self.told {
            self.note(ClockEvent::Followed(confirmed - self.told));
            // It never falls, though it does not rise with what was told a moment ago.
            (self.floor, self.floor_at) = (Duration::from_secs(self.floor()), self.at);
            (self.told, self.trust) = (confirmed, Trust::Followed);
            self.steps_left = STEP_MAX;
            self.steady_since = self.at;
        }
    }

    /// What time it would be if the wall clock were followed that is ahead; `None` when it is not.
    pub fn ahead(&self, reading: Reading) -> Option<Moment> {
        let Trust::Ahead { .. } = self.trust else { return None };
        Some(Moment { unix: reading.wall.as_secs(), running: self.at })
    }

    /// Goes back, or ahead, to the wall clock, because a person says that it is right. What has expired in between may be
    /// taken again.
    pub fn reset(&mut self, reading: Reading) {
        *self = Self { floor: reading.wall, ..Self::new(0, reading) };
    }

    /// What the next run is to begin at, at the least, in unix seconds. It rises with time, and with what is told once that
    /// has been told for [`AHEAD_PATIENCE`].
    pub fn floor(&self) -> u64 {
        let risen = self.floor + self.at.saturating_sub(self.floor_at);
        let is_steady = self.at.saturating_sub(self.steady_since) >= AHEAD_PATIENCE;
        if is_steady { self.told.max(risen) } else { self.told.min(risen) }.as_secs()
    }

    /// What the wall clock has done that somebody should know of.
    pub fn poll_event(&mut self) -> Option<ClockEvent> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    fn moment(&self) -> Moment {
        Moment { unix: self.told.as_secs(), running: self.at }
    }

    fn wall_is_behind(&mut self, behind: Duration, expected: Duration, passed: Duration) {
        if behind > STEP_MAX {
            self.told = expected;
            if self.trust != Trust::Behind {
                self.note(ClockEvent::Behind(behind));
            }
            self.trust = Trust::Behind;
        } else {
            // A small correction: slower, until the wall clock is there. One that stands still is left behind.
            self.told += (passed / 2).max(passed.saturating_sub(behind));
            self.set_trust(Trust::Followed);
        }
    }

    fn wall_is_ahead(&mut self, lead: Duration, expected: Duration, reading: Reading) {
        self.told = expected;
        match self.trust {
            // It may go on being corrected; one that jumps again is a new jump.
            Trust::Ahead { since, lead: before } if lead.abs_diff(before) <= STEP_MAX => {
                if self.at.saturating_sub(since) >= AHEAD_PATIENCE {
                    self.note(ClockEvent::Followed(lead));
                    (self.told, self.trust) = (reading.wall, Trust::Followed);
                    self.steps_left = STEP_MAX;
                    // It has been looked at for as long as that already.
                    self.steady_since = since;
                }
            }
            _ => {
                self.note(ClockEvent::Ahead(lead));
                self.trust = Trust::Ahead { since: self.at, lead };
            }
        }
    }

    fn set_trust(&mut self, trust: Trust) {
        if std::mem::replace(&mut self.trust, trust) != trust {
            self.note(ClockEvent::Agrees);
        }
    }

    fn note(&mut self, event: ClockEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push(event);
    }
}

/// The clock says a time before this program was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock says {now} (unix), which is before this program was built ({built}): it cannot tell what has expired"
)]
pub struct ClockBehind {
    /// What the clock says, in unix seconds.
    pub now: u64,
    /// When the program was built, in unix seconds.
    pub built: u64,
}

/// Refuses a clock that cannot be right.
///
/// # Errors
/// [`ClockBehind`] when `now` lies before `built`.
pub fn check_clock(now: u64, built: u64) -> Result<(), ClockBehind> {
    if now < built { Err(ClockBehind { now, built }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;
    const HOUR: i64 = 3600;

    #[test]
    fn before_the_build_is_behind() {
        assert_eq!(check_clock(99, 100), Err(ClockBehind { now: 99, built: 100 }));
        assert_eq!(check_clock(100, 100), Ok(()));
    }

    /// A machine whose wall clock can be set, and its timekeeper.
    struct Machine {
        running: u64,
        /// The wall clock, beside a right one.
        off: i64,
        keeper: Timekeeper,
    }

    impl Machine {
        fn new(floor: u64, off: i64) -> Self {
            let reading = Self::reading(0, off);
            Self { running: 0, off, keeper: Timekeeper::new(floor, reading) }
        }

        fn reading(running: u64, off: i64) -> Reading {
            let wall = START.saturating_add(running).saturating_add_signed(off);
            Reading { wall: Duration::from_secs(wall), running: Duration::from_secs(running) }
        }

        /// What is told after so many seconds, beside the right time; looked at each second, as a driver does.
        fn after(&mut self, seconds: u64) -> i64 {
            let mut told = self.keeper.tell(Self::reading(self.running, self.off));
            for _ in 0..seconds {
                self.running += 1;
                let now = self.keeper.tell(Self::reading(self.running, self.off));
                assert!(now >= told, "it never goes back: {told:?}, {now:?}");
                told = now;
            }
            told.unix as i64 - (START + self.running) as i64
        }

        fn events(&mut self) -> Vec<ClockEvent> {
            std::iter::from_fn(|| self.keeper.poll_event()).collect()
        }
    }

    fn seconds(seconds: i64) -> Duration {
        Duration::from_secs(seconds as u64)
    }

    /// Goal: a clock that was set back brings nothing back that has expired, while the program runs and after it was
    /// started again; somebody is told once.
    #[test]
    fn a_clock_that_is_set_back_is_left_behind() {
        let mut machine = Machine::new(0, 0);
        assert_eq!(machine.after(700), 0);
        machine.off = -3 * 365 * 24 * HOUR;
        assert_eq!(machine.after(5000), 0);
        let events = machine.events();
        assert!(matches!(events[..], [ClockEvent::Behind(_)]), "{events:?}");
        let floor = machine.keeper.floor();
        assert_eq!(floor, START + 5700);
        let mut again = Machine::new(floor, machine.off);
        assert_eq!(again.after(10), 5700, "the next run begins where this one was");
        assert!(matches!(again.events()[..], [ClockEvent::Behind(_)]));
        machine.off = 0;
        assert_eq!(machine.after(1), 0);
        assert_eq!(machine.events(), [ClockEvent::Agrees]);
    }

    /// Goal: a jump ahead is followed when it has lasted, and not before.
    #[test]
    fn a_jump_ahead_is_followed_after_ten_minutes() {
        let mut machine = Machine::new(0, 0);
        machine.after(1);
        machine.off = 25 * HOUR;
        assert_eq!(machine.after(599), 0);
        assert_eq!(machine.events(), [ClockEvent::Ahead(seconds(25 * HOUR))]);
        assert_eq!(machine.after(1), 25 * HOUR);
        assert_eq!(machine.events(), [ClockEvent::Followed(seconds(25 * HOUR))]);
        assert_eq!(machine.keeper.floor(), START + 601 + 25 * 3600);
    }

    /// Goal: one that is put right in that time, or goes on jumping, is not followed; the floor knows nothing of it.
    #[test]
    fn a_jump_that_does_not_last_is_not_followed() {
        let mut machine = Machine::new(START - 1000, 0);
        machine.after(1);
        for hour in 1..20 {
            machine.off = hour * HOUR;
            assert_eq!(machine.after(599), 0);
        }
        machine.off = 0;
        assert_eq!(machine.after(1), 0);
        assert_eq!(machine.keeper.floor(), START + machine.running);
        assert_eq!(machine.events().last(), Some(&ClockEvent::Agrees));
    }

    /// Goal: a program that begins under a clock that is ahead goes by it, and leaves no trace for the next one until the
    /// clock has said so for ten minutes.
    #[test]
    fn a_wrong_clock_at_the_start_locks_nobody_out() {
        let mut machine = Machine::new(START - 50, 1000 * HOUR);
        assert_eq!(machine.after(599), 1000 * HOUR);
        assert_eq!(machine.keeper.floor(), START - 50 + 599, "it has risen with time only");
        machine.after(1);
        assert_eq!(machine.keeper.floor(), START + 600 + 1_000 * 3600);
    }

    /// Goal: sleep is no jump: the running clock goes on meanwhile.
    #[test]
    fn a_machine_that_has_slept_is_where_its_clocks_are() {
        let mut machine = Machine::new(0, 0);
        machine.after(1);
        machine.running += 60 * 3600;
        assert_eq!(machine.after(0), 0);
        assert_eq!(machine.events(), []);
    }

    /// Goal: corrections of seconds are followed, ahead at once and back by going slower; nothing is said of them. Many
    /// of them one after another are a jump all the same.
    #[test]
    fn corrections_are_followed() {
        let mut machine = Machine::new(0, 0);
        machine.off = 20;
        assert_eq!(machine.after(0), 20);
        machine.off = 0;
        assert_eq!(machine.after(20), 10, "half as fast");
        assert_eq!(machine.after(20), 0);
        machine.off = -40;
        machine.after(100);
        assert_eq!(machine.after(0), -40);
        assert_eq!(machine.events(), []);
        for _ in 0..100 {
            machine.off += 30;
            machine.after(1);
        }
        assert!(machine.after(0) <= 60, "{}", machine.after(0));
        assert!(matches!(machine.events()[0], ClockEvent::Ahead(_)));
    }

    /// Goal: a clock that stands still does not hold the time up.
    #[test]
    fn a_clock_that_stands_still_is_left_behind() {
        let mut machine = Machine::new(0, 0);
        machine.after(1);
        for _ in 0..1000 {
            machine.off -= 1;
            machine.after(1);
        }
        assert!((-61..0).contains(&machine.after(0)), "{}", machine.after(0));
        assert!(matches!(machine.events()[..], [ClockEvent::Behind(_)]));
    }

    /// Goal: what somebody has signed confirms a clock that is ahead, as far as both say so.
    #[test]
    fn a_signed_time_confirms_a_clock_that_is_ahead() {
        let mut machine = Machine::new(0, 0);
        machine.after(1);
        machine.keeper.confirm(START + 50 * 3600, Machine::reading(1, 0));
        assert_eq!(machine.after(0), 0, "not beyond the wall clock");
        machine.off = 25 * HOUR;
        machine.after(10);
        assert_eq!(machine.keeper.ahead(Machine::reading(11, 25 * HOUR)).unwrap().unix, START + 11 + 25 * 3600);
        let reading = Machine::reading(machine.running, machine.off);
        machine.keeper.confirm(START - 5, reading);
        assert_eq!(machine.after(0), 0, "a signature of before says nothing");
        machine.keeper.confirm(START + 25 * 3600, reading);
        assert_eq!(machine.after(0), 25 * HOUR);
        assert_eq!(machine.keeper.ahead(reading), None);
    }

    /// Goal: the floor does not fall when a signed time is followed, though it does not yet rise with that.
    #[test]
    fn the_floor_never_falls() {
        let mut machine = Machine::new(0, 0);
        machine.off = 1000 * HOUR;
        machine.after(1500);
        let floor = machine.keeper.floor();
        assert_eq!(floor, START + 1500 + 1000 * 3600, "it has risen with what was followed");
        machine.off = 1025 * HOUR;
        machine.after(10);
        machine.keeper.confirm(START + 1025 * 3600, Machine::reading(machine.running, machine.off));
        assert!(machine.keeper.floor() >= floor + 10);
        assert!(machine.keeper.floor() < START + 1025 * 3600);
    }

    /// Goal: a person can say that the clock is right, where it was wrong for so long that it was followed.
    #[test]
    fn a_reset_goes_back() {
        let mut machine = Machine::new(0, 0);
        machine.off = 1000 * HOUR;
        machine.after(700);
        machine.off = 0;
        assert_eq!(machine.after(1), 1000 * HOUR);
        machine.keeper.reset(Machine::reading(machine.running, 0));
        assert_eq!(machine.after(0), 0);
        assert_eq!(machine.keeper.floor(), START + machine.running);
        assert_eq!(machine.after(700), 0);
    }
}
