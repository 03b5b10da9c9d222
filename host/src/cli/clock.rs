//! `macula-host clock show|reset`

use clap::{Args, Subcommand};
use macula_node::{StoredClock, unix_now, wall_now};

use super::{CommonFlags, home, home_as_it_is};
use crate::{config, failure::Failure, output};

#[derive(Debug, Args)]
pub(super) struct Clock {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what time rights are held against, and what the machine's clock says
    Show,
    /// Say that the machine's clock is right, where this home has seen a later time; what has expired may count again
    Reset,
}

impl Clock {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        match self.action {
            Action::Show => {
                let stored = home()?.clock()?;
                show(stored, unix_now(), common);
            }
            Action::Reset => {
                let (home, now) = (home_as_it_is()?, wall_now());
                config::check_wall_clock(now)?;
                let stored = home.reset_clock(now)?;
                if stored.reset_from > now {
                    output::note(format!(
                        "warning: {} s are gone through again: what expired in them may be taken again",
                        stored.reset_from - now
                    ));
                }
                show(stored, now, common);
            }
        }
        Ok(())
    }
}

fn show(stored: StoredClock, now: u64, common: &CommonFlags) {
    let (wall, floor) = (wall_now(), stored.floor);
    if common.json {
        output::json(&serde_json::json!({
            "now": now, "clock": wall, "floor": floor, "resets": stored.resets,
        }));
        return;
    }
    output::line(format_args!("now    {} ({now})", output::utc(now)));
    output::line(format_args!("clock  {} ({wall})", output::utc(wall)));
    output::line(format_args!("floor  {} ({floor})", output::utc(floor)));
    if stored.resets > 0 {
        output::line(format_args!("reset  {} times, last from {}", stored.resets, output::utc(stored.reset_from)));
    }
}
