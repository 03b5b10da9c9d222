//! `macula-host logs PLUGIN [-f]`

use std::collections::BTreeMap;

use clap::Args;
use macula_node::auth::ucan::Ipld;
use macula_runtime::{LogLevel, LogLine};

use super::{ClientFlags, CommonFlags, HostFlags, client, client_runtime, completion};
use crate::{
    admin_rpc::plugins_procedure,
    compose::stop_signal,
    config::{self, Settings},
    failure::Failure,
    output::{self, Printer, Unread, readable},
    plugin_admin::Entries,
};

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The plugin's name
    #[arg(add = completion::plugins())]
    plugin: String,
    /// Go on as entries come
    #[arg(short, long)]
    follow: bool,
    /// Least level to show: trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL", value_parser = config::log_level, default_value = "trace")]
    level: LogLevel,
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    client: ClientFlags,
}

impl Logs {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        client_runtime()?.block_on(async {
            let admin = client::Admin::of_plugin(&settings, &client, &self.host, &self.plugin).await?;
            let mut stop = std::pin::pin!(stop_signal()?);
            let printer = Printer::to_stdout()?;
            let outcome = tokio::select! {
                outcome = self.show(&admin, &printer, common) => Some(outcome),
                () = printer.unread() => Some(Ok(())),
                () = &mut stop => None,
            };
            admin.mesh.close().await;
            match outcome {
                Some(_) => output::finish(printer).await,
                None => output::finish_soon(printer).await,
            }
            outcome.unwrap_or(Ok(()))
        })
    }

    async fn show(&self, admin: &client::Admin<'_>, printer: &Printer, common: &CommonFlags) -> Result<(), Failure> {
        let mut from = 0;
        let mut waits = false;
        loop {
            let arguments = BTreeMap::from([
                ("do".to_owned(), Ipld::String("logs".to_owned())),
                ("plugin".to_owned(), Ipld::String(self.plugin.clone())),
                ("from".to_owned(), Ipld::Integer(from.into())),
                ("wait".to_owned(), Ipld::Bool(waits)),
            ]);
            let answer = admin.ask(&plugins_procedure(&admin.host), arguments).await?;
            let entries: Entries = client::read(&answer)?;
            // A plugin that was started anew counts from the beginning.
            from = if entries.next < from { 0 } else { entries.next };
            for line in entries.lines.iter().filter(|line| line.level >= self.level) {
                let printed = if common.json { printer.json(line).await } else { printer.line(text(line)).await };
                if printed == Err(Unread) {
                    return Ok(());
                }
            }
            if !self.follow && !entries.has_more {
                return Ok(());
            }
            waits = !entries.has_more;
        }
    }
}

/// One line for people.
fn text(line: &LogLine) -> String {
    let level = format!("{:?}", line.level).to_lowercase();
    let target = if line.target.is_empty() { String::new() } else { format!("{}: ", readable(&line.target)) };
    let fields: String =
        line.fields.iter().map(|(name, value)| format!(" {}={}", readable(name), readable(value))).collect();
    format!("{} {level:<5} {target}{}{fields}", output::time(line.timestamp_ms), readable(&line.message))
}
