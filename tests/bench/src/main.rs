//! Measures the mesh: publisher, relay and subscriber as processes of their own, TLS on as always.
//!
//! `cargo run --release -p macula-bench` runs everything and prints a table; `-- pubsub`, `-- calls`, `-- links`,
//! `-- plugin`, `-- content`, `-- shaped`, `-- deploy` and `-- crowd` run a part. Each figure is the median of several
//! rounds; the spread is printed beside it. A timing is never a test: nothing here fails because a machine is slow.

#![expect(clippy::print_stdout, reason = "its output is the table")]

mod calls;
mod component;
mod content;
mod crowd;
mod deploy;
mod host;
mod links;
mod plugin;
mod process;
mod pubsub;
mod shaped;
mod table;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Rounds of each measurement.
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
}

#[derive(Subcommand)]
enum Part {
    /// Messages through the relay, 1→1 and 1→16.
    Pubsub,
    /// Calls through the relay.
    Calls,
    /// Memory of idle links.
    Links,
    /// A plugin that gives back messages and calls.
    Plugin,
    /// 1 GiB through the relay.
    Content,
    /// 1 GiB from providers behind slow lines.
    Shaped,
    /// New versions of a plugin, with and without load.
    Deploy,
    /// A thousand plugins on one host.
    Crowd,
    /// One process of a measurement; started by the others.
    #[command(hide = true)]
    Role(process::Role),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Part::Role(role)) = arguments.part {
        return role.run();
    }
    let mut table = table::Table::default();
    let all = arguments.part.is_none();
    if all || matches!(arguments.part, Some(Part::Pubsub)) {
        pubsub::measure(arguments.rounds, &mut table)?;
    }
    if all || matches!(arguments.part, Some(Part::Calls)) {
        calls::measure(arguments.rounds, &mut table)?;
    }
    if all || matches!(arguments.part, Some(Part::Links)) {
        links::measure(&mut table)?;
    }
    if all || matches!(arguments.part, Some(Part::Plugin)) {
        plugin::measure(arguments.rounds, &mut table)?;
    }
    if all || matches!(arguments.part, Some(Part::Content)) {
        content::measure(arguments.rounds, &mut table)?;
    }
    if all || matches!(arguments.part, Some(Part::Shaped)) {
        shaped::measure(&mut table)?;
    }
    if all || matches!(arguments.part, Some(Part::Deploy)) {
        deploy::measure(&mut table)?;
    }
    if all || matches!(arguments.part, Some(Part::Crowd)) {
        crowd::measure(&mut table)?;
    }
    table.print();
    Ok(())
}
