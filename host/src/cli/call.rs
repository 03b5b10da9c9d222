//! `macula-host call PROCEDURE [ARGUMENTS]`

use clap::Args;
use macula_node::{
    CallOptions,
    wire::{
        ContentType, Operation, Topic, Traceparent, Tracestate,
        frame::Extras,
        limits::{IDEMPOTENCY_KEY_BYTES_MAX, PAYLOAD_BYTES_MAX},
    },
};
use tokio::io::AsyncReadExt;

use super::{ClientFlags, CommonFlags, client, client_runtime, completion, publish::unread};
use crate::{config::Settings, failure::Failure, output};

#[derive(Debug, Args)]
pub(super) struct Call {
    /// What to call, for example math.add
    #[arg(add = completion::procedures())]
    procedure: Topic,
    /// The arguments as JSON, for example '[1, 2]'; '-' reads them from standard input
    #[arg(allow_hyphen_values = true)]
    arguments: Option<String>,
    /// Send the arguments as they are, whatever they are
    #[arg(long)]
    raw: bool,
    /// The same for every try of what is meant to happen once, at most 64 bytes
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Trace that the call belongs to (W3C Trace Context): 00-<trace id>-<span id>-<flags>
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<Traceparent>,
    /// What is noted about that trace: key=value,key=value, at most 512 bytes
    #[arg(long, value_name = "TRACESTATE", requires = "traceparent")]
    tracestate: Option<Tracestate>,
    #[command(flatten)]
    client: ClientFlags,
}

impl Call {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let key = self.idempotency_key.as_deref().unwrap_or_default();
        if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Failure::usage(format!("the idempotency key is above {IDEMPOTENCY_KEY_BYTES_MAX} bytes")));
        }
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        client_runtime()?.block_on(async {
            let payload = self.payload().await?;
            let content_type: ContentType = if self.raw { "" } else { "application/json" }.parse().expect("a constant");
            let idempotency_key = self.idempotency_key.as_deref().map(Into::into);
            let (traceparent, tracestate) = (self.traceparent.clone(), self.tracestate.clone());
            let extras = Extras { idempotency_key, traceparent, tracestate, ..Extras::default() };
            let options = CallOptions { timeout: client.timeout, content_type, extras, ..CallOptions::default() };
            let explained = |failure| client::with_grantor(failure, &settings, Operation::Call, &self.procedure);
            let mesh = client::connect(&settings, &client).await.map_err(explained)?;
            let answer = mesh.call(&self.procedure, &payload, &options).await;
            mesh.close().await;
            let answer = answer.map_err(|error| explained(Failure::from(error).during(&self.procedure)))?;
            print_answer(&answer, common);
            Ok(())
        })
    }

    async fn payload(&self) -> Result<Vec<u8>, Failure> {
        let payload = match self.arguments.as_deref() {
            None => return Ok(Vec::new()),
            Some("-") => {
                let mut input = Vec::new();
                tokio::io::stdin().take(PAYLOAD_BYTES_MAX as u64 + 1).read_to_end(&mut input).await.map_err(unread)?;
                input
            }
            Some(text) => text.as_bytes().to_vec(),
        };
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Failure::usage(format!("the arguments are above {PAYLOAD_BYTES_MAX} bytes (1 MiB)")));
        }
        if !self.raw
            && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload)
        {
            return Err(Failure::usage(format!("the arguments are no JSON: {error} (--raw sends them as they are)")));
        }
        Ok(payload)
    }
}

/// An answer in JSON stays one line of JSON; in JSON mode, another kind of answer becomes a JSON string or base64.
fn print_answer(answer: &[u8], common: &CommonFlags) {
    if !common.json || serde_json::from_slice::<serde::de::IgnoredAny>(answer).is_ok() {
        output::bytes(answer);
    } else if let Ok(text) = std::str::from_utf8(answer) {
        output::json(&text);
    } else {
        output::json(&serde_json::json!({ "base64": data_encoding::BASE64.encode(answer) }));
    }
}
