//! A scenario from what happens: what comes to the plugin's subscriptions becomes steps, and what it publishes is expected
//! of the step before.

use std::{fs, path::Path, time::Duration};

use macula_node::{
    Mesh, Subscribe,
    wire::{Message, Operation, Pattern},
};
use macula_runtime::{Inspection, Manifest};
use macula_scenario::{Message as Given, Payload, Published, Scenario, Step};
use tokio::time::{Instant, timeout_at};

use crate::{
    cli::{ClientFlags, CommonFlags, client, client_runtime},
    config::Settings,
    failure::Failure,
    output,
};

pub(super) fn record(
    inspection: &Inspection,
    file: &Path,
    time: Duration,
    flags: &ClientFlags,
    common: &CommonFlags,
) -> Result<(), Failure> {
    let manifest = Manifest::resolve(inspection.manifest.as_deref(), None, "plugin").map_err(Failure::failed)?;
    let settings = Settings::load(common)?;
    let client = settings.client(flags)?;
    client_runtime()?.block_on(async {
        let mesh = client::connect(&settings, &client).await?;
        let steps = listen(&mesh, &manifest, time).await;
        mesh.close().await;
        let steps = steps?;
        if steps.is_empty() {
            return Err(Failure::not_found(format!("nothing came to {} within {} s", manifest.name, time.as_secs())));
        }
        let count = steps.len();
        let scenario = Scenario { description: "Recorded".to_owned(), steps, ..Scenario::default() };
        let text = toml::to_string(&scenario).map_err(Failure::failed)?;
        fs::write(file, text).map_err(|error| Failure::from(error).during(file.display()))?;
        output::line(format_args!("{count} steps in {}", file.display()));
        Ok(())
    })
}

async fn listen(mesh: &Mesh, manifest: &Manifest, time: Duration) -> Result<Vec<Step>, Failure> {
    let mut patterns: Vec<Pattern> = manifest.asks.patterns(Operation::Subscribe).to_vec();
    for pattern in manifest.asks.patterns(Operation::Publish) {
        if !patterns.iter().any(|known| known.covers(pattern)) {
            patterns.push(pattern.clone());
        }
    }
    let (heard, mut messages) = tokio::sync::mpsc::channel::<Message>(1024);
    let mut tasks = tokio::task::JoinSet::new();
    let options = Subscribe { retained: false, ..Subscribe::default() };
    for pattern in patterns {
        let mut subscription = mesh.subscribe_with(pattern, options.clone()).await?;
        let heard = heard.clone();
        tasks.spawn(async move {
            while let Some(message) = subscription.next().await {
                if heard.send(message).await.is_err() {
                    return;
                }
            }
        });
    }
    output::note(format_args!("recording {} for {} s", manifest.name, time.as_secs()));
    let deadline = Instant::now() + time;
    let mut steps: Vec<Step> = Vec::new();
    while let Ok(Some(message)) = timeout_at(deadline, messages.recv()).await {
        let payload = Payload::of(&message.payload);
        if message.plugin == manifest.name {
            // What it says by itself, after a time, belongs to no step.
            if let Some(step) = steps.last_mut() {
                let published = Published { topic: message.topic, payload, retain: None };
                step.publishes.get_or_insert_default().push(published);
            }
        } else {
            let given = Given {
                topic: message.topic,
                payload,
                content_type: message.content_type.as_str().to_owned(),
                metadata: message.metadata.iter().flat_map(|metadata| metadata.pairs().iter().cloned()).collect(),
            };
            steps.push(Step { message: Some(given), publishes: Some(Vec::new()), ..Step::default() });
        }
    }
    Ok(steps)
}
