//! `macula-host`: a node of a relay mesh over HTTP/3, and a host for sandboxed WebAssembly handlers.
//!
//! Glue only: subcommands in `cli`, settings in `config`, wiring in `compose`; what they do is in the crates below
//! `host/crates`.

mod admin_rpc;
mod answering;
mod cli;
mod compose;
mod config;
mod content_admin;
mod deployment;
mod dev;
mod failure;
mod given_plugins;
mod named_component;
mod output;
mod plugin_admin;
mod plugin_content;
mod plugin_mesh;
mod project;
mod registry;
mod reload;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // SAFETY: called before any other thread is there; ignoring a signal touches no memory. A file that has reached its
    // limit is then an error of the write, like a full disk, and not the end of the node.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    cli::answer_shell();
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::say_usage(&error),
    };
    let format = output::Format::of(arguments.common.json);
    match cli::run(arguments).and_then(|()| output::check()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::print_failure(&failure, format);
            failure.exit_code()
        }
    }
}
