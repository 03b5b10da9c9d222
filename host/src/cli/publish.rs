//! `macula-host publish TOPIC [PAYLOAD | --lines | -]`

use std::{collections::VecDeque, io::IsTerminal, time::Duration};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use macula_node::{
    ConfirmError, Confirmation, Mesh, Publish as Options, Publisher,
    wire::{
        ContentType, Delivery, Metadata, Operation, Priority, Receipt, ReceiptLevel, Topic, Traceparent, Tracestate,
        frame::Extras, limits::PAYLOAD_BYTES_MAX,
    },
};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{ClientFlags, CommonFlags, client, client_runtime, completion};
use crate::{
    config::Settings,
    failure::{Failure, Kind},
    output,
};

/// Lines between two confirmations, and confirmations under way: a fast source does not overrun slow subscribers that
/// asked for every message.
const LINES_PER_CONFIRMATION: u64 = 512;
const CONFIRMATIONS_UNDER_WAY: usize = 4;

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// Where to, for example sensors.kitchen.temperature
    #[arg(add = completion::topics())]
    topic: Topic,
    /// The message; '-' reads it from standard input
    #[arg(allow_hyphen_values = true, conflicts_with = "lines")]
    payload: Option<String>,
    /// One message for each line of standard input
    #[arg(long)]
    lines: bool,
    /// Keep it as the topic's last value (an empty message: forget that)
    #[arg(long)]
    retain: bool,
    /// How hard the mesh tries
    #[arg(long, value_enum, default_value = "ordered")]
    delivery: DeliveryFlag,
    /// Media type of the payload
    #[arg(long, value_name = "TYPE", default_value = "")]
    content_type: ContentType,
    /// Metadata (repeat for more)
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// Trace that the message belongs to (W3C Trace Context): 00-<trace id>-<span id>-<flags>
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<Traceparent>,
    /// What is noted about that trace: key=value,key=value, at most 512 bytes
    #[arg(long, value_name = "TRACESTATE", requires = "traceparent")]
    tracestate: Option<Tracestate>,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeliveryFlag {
    /// In order for each publisher
    Ordered,
    /// Only the newest counts
    Latest,
    /// Ordered, and a relay confirms it
    Acked,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Serialize)]
struct Published<'a> {
    topic: &'a str,
    bytes: usize,
    epoch: u64,
    seq: u64,
    level: &'static str,
}

impl Publish {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        if self.topic.is_reserved() {
            return Err(Failure::usage(format!("{} is a system name; only nodes publish to it", self.topic)));
        }
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        let options = self.options(client.priority)?;
        client_runtime()?.block_on(async {
            let one = if self.lines { None } else { Some(self.single_payload().await?) };
            let explained = |failure| client::with_grantor(failure, &settings, Operation::Publish, &self.topic);
            let mesh = client::connect(&settings, &client).await.map_err(explained)?;
            let outcome = match one {
                Some(payload) => self.publish_one(&mesh, &payload, &options, common).await,
                None => self.publish_lines(&mesh, &options, common).await,
            };
            mesh.close().await;
            outcome.map_err(explained)
        })
    }

    fn options(&self, priority: Priority) -> Result<Options, Failure> {
        let metadata = Metadata::new(self.meta.clone()).map_err(Failure::usage)?;
        let extras = Extras {
            metadata: (!metadata.is_empty()).then(|| metadata.into()),
            traceparent: self.traceparent.clone(),
            tracestate: self.tracestate.clone(),
            ..Extras::default()
        };
        let delivery = match self.delivery {
            DeliveryFlag::Ordered => Delivery::Ordered,
            DeliveryFlag::Latest => Delivery::Latest,
            DeliveryFlag::Acked => Delivery::Acked,
        };
        let content_type = self.content_type.clone();
        Ok(Options { delivery, priority, retain: self.retain, content_type, cause_depth: 0, extras })
    }

    async fn single_payload(&self) -> Result<Vec<u8>, Failure> {
        let payload = match self.payload.as_deref() {
            Some("-") => read_input().await?,
            Some(text) => text.as_bytes().to_vec(),
            None if std::io::stdin().is_terminal() => {
                return Err(Failure::usage(
                    "what to publish? give a PAYLOAD, or --lines, or '-' to read standard input",
                ));
            }
            None => read_input().await?,
        };
        check_size(payload.len(), "the payload")?;
        Ok(payload)
    }

    async fn publish_one(
        &self,
        mesh: &Mesh,
        payload: &[u8],
        options: &Options,
        common: &CommonFlags,
    ) -> Result<(), Failure> {
        let receipt = mesh.publish_with(&self.topic, payload, options).await?;
        // Without a relay's word, a message in the queue of a process that ends would be a lost one.
        mesh.flush().await?;
        self.report(receipt, payload.len(), common);
        Ok(())
    }

    fn report(&self, receipt: Receipt, bytes: usize, common: &CommonFlags) {
        if common.json {
            let Receipt { epoch, seq, .. } = receipt;
            let level = level_name(ReceiptLevel::RelayMemory.max(receipt.level));
            output::json(&Published { topic: &self.topic, bytes, epoch, seq, level });
        } else if output::is_watched() {
            output::note(format!("published {bytes} bytes to {}", self.topic));
        }
    }

    async fn publish_lines(&self, mesh: &Mesh, options: &Options, common: &CommonFlags) -> Result<(), Failure> {
        let mut publisher = mesh.publisher_with(&self.topic, options);
        let mut under_way = UnderWay::default();
        let progress = progress(&self.topic, common);
        let mut input = BufReader::with_capacity(256 << 10, tokio::io::stdin());
        let (mut line, mut count) = (Vec::new(), 0);
        loop {
            line.clear();
            if read_line(&mut input, &mut line, count + 1).await? == 0 {
                break;
            }
            publisher
                .publish(&line)
                .await
                .map_err(|fault| Failure::from(fault).during(format!("line {}", count + 1)))?;
            count += 1;
            progress.inc(1);
            under_way.pace(&publisher, count).await?;
        }
        let unknown = under_way.finish(&publisher).await?;
        progress.finish_and_clear();
        if common.json {
            let mut report = serde_json::json!({ "topic": self.topic.as_str(), "messages": count });
            for (name, messages) in [("unknown", unknown), ("undelivered", mesh.undelivered())] {
                if messages > 0 {
                    report[name] = messages.into();
                }
            }
            output::json(&report);
        } else if mesh.undelivered() > 0 {
            output::note(format_args!(
                "{} of them did not reach a subscriber whose queue was full, as far as the relay has told",
                mesh.undelivered()
            ));
        }
        if unknown > 0 {
            let what = format!(
                "of {count} messages to {}, {unknown} may not have arrived: the link to the relay was lost before it confirmed \
                 them; publish them again, or all with --delivery acked, which sends again what is not confirmed",
                self.topic
            );
            return Err(Failure::new(Kind::Unreachable, what));
        }
        if !common.json {
            output::note(format!("published {count} messages to {}", self.topic));
        }
        Ok(())
    }
}

/// Confirmations of lines, of which a few are under way.
#[derive(Default)]
struct UnderWay {
    confirmations: VecDeque<Confirmation>,
    /// Lines of which it is not known whether they arrived.
    unknown: u64,
}

impl UnderWay {
    /// After a line: asks for a confirmation when none is under way, so that as little as can be is unknown when a link is
    /// lost, and for one more each [`LINES_PER_CONFIRMATION`]; waits when there are too many.
    async fn pace(&mut self, publisher: &Publisher, count: u64) -> Result<(), Failure> {
        while let Some(concluded) = self.confirmations.pop_front_if(|oldest| oldest.is_concluded()) {
            self.wait(concluded).await?;
        }
        if self.confirmations.is_empty() || count.is_multiple_of(LINES_PER_CONFIRMATION) {
            self.confirmations.push_back(publisher.confirm()?);
        }
        if self.confirmations.len() > CONFIRMATIONS_UNDER_WAY
            && let Some(oldest) = self.confirmations.pop_front()
        {
            self.wait(oldest).await?;
        }
        Ok(())
    }

    async fn wait(&mut self, confirmation: Confirmation) -> Result<(), Failure> {
        match confirmation.wait().await {
            Ok(()) => Ok(()),
            Err(ConfirmError::Unknown { messages }) => {
                self.unknown += messages;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until all lines are confirmed; of how many it is not known whether they arrived.
    async fn finish(mut self, publisher: &Publisher) -> Result<u64, Failure> {
        self.confirmations.push_back(publisher.confirm()?);
        while let Some(oldest) = self.confirmations.pop_front() {
            self.wait(oldest).await?;
        }
        Ok(self.unknown)
    }
}

/// One line without its end; 0 at the end of the input.
async fn read_line(input: &mut BufReader<tokio::io::Stdin>, line: &mut Vec<u8>, number: u64) -> Result<usize, Failure> {
    let mut limited = input.take(PAYLOAD_BYTES_MAX as u64 + 2);
    let read = limited.read_until(b'\n', line).await.map_err(unread)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    check_size(line.len(), &format!("line {number}"))?;
    Ok(read)
}

async fn read_input() -> Result<Vec<u8>, Failure> {
    let mut payload = Vec::new();
    // One byte above the limit is enough to know.
    tokio::io::stdin().take(PAYLOAD_BYTES_MAX as u64 + 1).read_to_end(&mut payload).await.map_err(unread)?;
    Ok(payload)
}

/// What is wrong with standard input.
pub(super) fn unread(error: std::io::Error) -> Failure {
    Failure::from(error).during("cannot read standard input")
}

fn check_size(bytes: usize, what: &str) -> Result<(), Failure> {
    if bytes <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::usage(format!("{what} is above {PAYLOAD_BYTES_MAX} bytes (1 MiB), the most that one message carries")))
}

fn progress(topic: &Topic, common: &CommonFlags) -> ProgressBar {
    // A terminal as input is somebody typing: their lines are progress enough.
    if common.json || !output::is_watched() || std::io::stdin().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{spinner} {msg}: {human_pos} messages, {per_sec}").expect("a constant template");
    let progress = ProgressBar::new_spinner().with_style(style).with_message(topic.to_string());
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

fn level_name(level: ReceiptLevel) -> &'static str {
    match level {
        ReceiptLevel::Host => "host",
        ReceiptLevel::RelayDisk => "relay-disk",
        _ => "relay-memory",
    }
}
