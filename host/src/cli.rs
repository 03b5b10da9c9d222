//! The command line: one subcommand a module.

mod build;
mod call;
mod client;
mod clock;
mod completion;
mod content;
mod deadletters;
mod deploy;
mod dev;
mod inspect;
mod key;
mod logs;
mod new;
mod publish;
mod realm;
mod registry;
mod relay;
mod run;
mod slots;
mod status;
mod subscribe;
mod test;
mod token;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, error::ErrorKind};
use macula_node::{
    Home, RelayUrl,
    wire::{NodeId, Priority, RealmName},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

pub(crate) use self::completion::answer_shell;
use crate::{
    config,
    failure::{Failure, Kind},
    output,
};

/// A node of a relay mesh over HTTP/3, and a host for sandboxed WebAssembly handlers.
#[derive(Debug, Parser)]
#[command(name = "macula-host", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: CommonFlags,
    #[command(subcommand)]
    command: Command,
}

/// Flags of all commands.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CommonFlags {
    /// Realm to act in [default: local.dev, env: MACULA_REALM]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) realm: Option<RealmName>,
    /// Delegations to act by, beside those in $MACULA_HOME/tokens (repeat for more)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token: Vec<PathBuf>,
    /// Settings [default: $MACULA_HOME/macula.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to standard error (twice: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl CommonFlags {
    /// How ids are shown to people: in short, and whole for those who asked for more.
    pub(crate) fn id(&self, node: &NodeId) -> String {
        if self.verbose > 0 { node.to_string() } else { node.short() }
    }
}

/// Flags of commands that run a node.
#[derive(Debug, Args)]
pub(crate) struct NodeFlags {
    /// UDP address of the relay; 0.0.0.0:9443 takes links from other machines [default: 127.0.0.1:9443, env: MACULA_QUIC_PORT]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Relay to dial (repeat for more): quic://HOST[:PORT][#NODE-ID]
    #[arg(long, value_name = "URL")]
    pub(crate) relay: Vec<RelayUrl>,
    /// Name of this node's state in MACULA_HOME
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// TCP address of health and metrics [default: 127.0.0.1:8080, env: HEALTH_PORT]
    #[arg(long, value_name = "ADDR")]
    pub(crate) health: Option<SocketAddr>,
}

/// Flags of commands that talk to a running node.
#[derive(Debug, Default, Args)]
pub(crate) struct ClientFlags {
    /// Node to talk to: quic://HOST[:PORT][#NODE-ID] [default: the one that runs here, env: MACULA_NODE]
    #[arg(long, value_name = "URL")]
    pub(crate) node: Option<RelayUrl>,
    /// How long to wait for the node and for an answer [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = config::patience)]
    pub(crate) timeout: Option<Duration>,
    /// Queue to take where there is competition: high, normal or low [default: normal]
    #[arg(long, value_name = "PRIORITY")]
    pub(crate) priority: Option<Priority>,
}

/// Flags of commands about a host's plugins.
#[derive(Debug, Args)]
pub(crate) struct HostFlags {
    /// Name of the host, as `run --name` and `status` have it; with --node, the id of one that runs elsewhere [default: the one
    /// here on which the plugin runs]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run plugins: component files, or folders with their source, which are built first
    Run(run::Run),
    /// Run a relay without plugins
    Relay(relay::Relay),
    /// Publish a message, or many
    Publish(publish::Publish),
    /// Print messages as they come
    Subscribe(subscribe::Subscribe),
    /// Call a procedure
    Call(call::Call),
    /// Store content, and fetch it by its id
    Content(content::Content),
    /// Let all hosts that follow a slot run a component
    Deploy(deploy::Deploy),
    /// Let a slot hold what it held before
    Rollback(deploy::Rollback),
    /// Show how far hosts are with what was deployed, and grant what waits for it
    Slots(slots::Slots),
    /// Register components under names and versions, and find them
    Registry(registry::Registry),
    /// Show what a component needs and can do, without running it
    Inspect(inspect::Inspect),
    /// Begin a plugin: a project that builds, is tested and runs at once
    New(new::New),
    /// Run a plugin from its source, and what you make of it, as you make it
    Dev(dev::Dev),
    /// Build a plugin from its source
    Build(build::Build),
    /// Run a plugin's scenarios, in virtual time and without a mesh
    Test(test::Test),
    /// Show what a plugin has written, and what the host says of it
    Logs(logs::Logs),
    /// See to messages that no handler could deal with
    #[command(name = "deadletters")]
    DeadLetters(deadletters::DeadLetters),
    /// Show what runs here
    Status(status::Status),
    /// Show or make node keys
    Key(key::Key),
    /// Make, pin and list realms
    Realm(realm::Realm),
    /// Issue, inspect, verify and revoke delegations
    Token(token::Token),
    /// Show the time that rights are held against, and reset it
    Clock(clock::Clock),
    /// Print what makes a shell complete commands, topics, plugins and slots
    Completion(completion::Completion),
    /// Write manual pages
    Man(completion::Man),
}

/// Prints why the arguments are none, or what they ask for in place of a command: help, or the version. With `--json` among
/// them it is a line of JSON, except for help, which is for people.
pub(crate) fn say_usage(error: &clap::Error) -> ExitCode {
    let is_json =
        std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json");
    let written = match error.kind() {
        ErrorKind::DisplayVersion if is_json => {
            let version = serde_json::json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
            output::json(&version)
        }
        ErrorKind::DisplayVersion | ErrorKind::DisplayHelp => output::noted(error.print()),
        _ if is_json => {
            output::print_failure(&Failure::usage(usage_text(error)), output::Format::Json);
            true
        }
        _ => output::noted(error.print()),
    };
    let exit = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Kind::Usage as u8));
    // Nobody who has gone is told anything; a disk that is full is.
    match output::check() {
        Err(failure) if !written => {
            output::print_failure(&failure, output::Format::of(is_json));
            failure.exit_code()
        }
        _ => exit,
    }
}

/// What clap says of wrong arguments, without the reminder of how they would be right: one line.
fn usage_text(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text.split("\n\n").take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let words: Vec<&str> = told.flat_map(str::split_whitespace).collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

/// Runs the command that was given.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { common, command } = arguments;
    log_to_stderr(&common, &command);
    match command {
        Command::Run(run) => run.run(&common),
        Command::Relay(relay) => relay.run(&common),
        Command::Publish(publish) => publish.run(&common),
        Command::Subscribe(subscribe) => subscribe.run(&common),
        Command::Call(call) => call.run(&common),
        Command::Content(content) => content.run(&common),
        Command::Deploy(deploy) => deploy.run(&common),
        Command::Rollback(rollback) => rollback.run(&common),
        Command::Slots(slots) => slots.run(&common),
        Command::Registry(registry) => registry.run(&common),
        Command::Inspect(inspect) => inspect.run(&common),
        Command::New(new) => new.run(&common),
        Command::Dev(dev) => dev.run(&common),
        Command::Build(build) => build.run(&common),
        Command::Test(test) => test.run(&common),
        Command::Logs(logs) => logs.run(&common),
        Command::DeadLetters(letters) => letters.run(&common),
        Command::Status(status) => status.run(&common),
        Command::Key(key) => key.run(&common),
        Command::Realm(realm) => realm.run(&common),
        Command::Token(token) => token.run(&common),
        Command::Clock(clock) => clock.run(&common),
        Command::Completion(completion) => completion.run(),
        Command::Man(man) => man.run(&common),
    }
}

/// Nodes log what happens to them; other commands only what is wrong. `RUST_LOG` overrides.
fn log_to_stderr(common: &CommonFlags, command: &Command) {
    let runs_a_node = matches!(command, Command::Run(_) | Command::Relay(_));
    let default = match (common.verbose, runs_a_node) {
        (0, true) => {
            "warn,web_transport_quinn=error,macula_host=info,macula_node=info,macula_runtime=info,macula_audit=info,plugin=info"
        }
        // It shows what happens by itself.
        // They show what the plugin says by themselves.
        (0, false) if matches!(command, Command::Test(_) | Command::Dev(_)) => "error,plugin=off",
        (0, false) => "error",
        (1, _) => {
            "info,web_transport_quinn=error,macula_host=debug,macula_node=debug,macula_runtime=debug,macula_transport=debug,macula_audit=debug,plugin=debug"
        }
        _ => "debug,plugin=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let registry = tracing_subscriber::registry().with(filter);
    if common.json {
        registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).init();
    } else {
        let ansi = output::has_colors();
        registry.with(tracing_subscriber::fmt::layer().compact().with_ansi(ansi).with_writer(std::io::stderr)).init();
    }
}

/// The home that the environment names, or the platform's; made where it is not there. From here on the time is not before
/// what it has seen.
fn home() -> Result<Home, Failure> {
    let home = home_as_it_is()?;
    config::begin_clock(&home)?;
    Ok(home)
}

/// The same, whatever it knows of the time.
fn home_as_it_is() -> Result<Home, Failure> {
    Ok(Home::open(config::Environment::read()?.home_path()?)?)
}

/// The same for commands that only read there: a home that is not there holds nothing.
fn home_to_read() -> Result<Home, Failure> {
    let home = Home::at(config::Environment::read()?.home_path()?);
    config::begin_clock(&home)?;
    Ok(home)
}

/// A folder for what is worth keeping from one run to the next. Where the home takes nothing, it goes with this process: what is
/// kept saves time, and nothing depends on it.
struct Cache {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Cache {
    /// The folder of this name below the home.
    fn named(name: &str) -> Result<Self, Failure> {
        let kept = config::Environment::read()?.home_path()?.join(name);
        // Who may write is found out by writing.
        let takes_files = std::fs::create_dir_all(&kept).and_then(|()| tempfile::tempfile_in(&kept));
        if takes_files.is_ok() {
            return Ok(Self { path: kept, _temporary: None });
        }
        let temporary = tempfile::tempdir()?;
        Ok(Self { path: temporary.path().to_owned(), _temporary: Some(temporary) })
    }
}

/// A runtime for commands that talk to a node and end. The command itself runs on the thread that waits for it, and the link
/// is kept by another one: whatever the command does to files, pipes and terminals, for however long, the link stays.
fn client_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("macula-link").enable_all().build()?)
}
