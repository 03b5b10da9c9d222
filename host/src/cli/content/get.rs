//! `macula-host content get MCID [-o FILE]`

use std::path::Path;

use macula_node::{
    FetchError, FetchOptions,
    content::GroupSet,
    wire::{Mcid, Operation},
};

use macula_runtime::COMPONENT_BYTES_MAX;

use super::{file, progress::Progress};
use crate::{
    cli::{CommonFlags, client},
    compose::stop_signal,
    config::{ClientSettings, Settings},
    failure::{Failure, Kind},
    output,
};

pub(super) async fn run(
    settings: &Settings,
    client: &ClientSettings,
    common: &CommonFlags,
    mcid: &Mcid,
    path: Option<&Path>,
) -> Result<(), Failure> {
    let explained = |failure| client::with_grantor(failure, settings, Operation::Fetch, mcid.as_str());
    // A place that takes nothing is found out before anything is fetched.
    let target = file::Target::at(path, settings.home.path())?;
    let mesh = client::connect(settings, client).await.map_err(explained)?;
    let options = FetchOptions { size: None, have: GroupSet::new(), patience: client.timeout };
    let fetching = mesh.fetch(mcid, Box::new(target.sink()?), options);
    let mut watched = fetching.progress();
    let mut progress = Progress::new(common);
    let finish = fetching.finish();
    tokio::pin!(finish);
    let mut stop = std::pin::pin!(stop_signal()?);
    let outcome = loop {
        tokio::select! {
            outcome = &mut finish => break outcome.map_err(|error| explained(failure(&error))),
            () = &mut stop => break Err(Failure::failed("interrupted; nothing was written")),
            Ok(()) = watched.changed() => {
                let now = *watched.borrow_and_update();
                // What goes to standard output is the content alone.
                if path.is_some() || !common.json {
                    progress.show(now.bytes_done, now.bytes_total, now.providers_sending, now.bytes_per_second);
                }
            }
        }
    };
    drop(progress);
    mesh.close().await;
    outcome?;
    target.deliver()?;
    if common.json && path.is_some() {
        output::json(&serde_json::json!({ "state": "done", "mcid": mcid }));
    }
    Ok(())
}

/// The bytes of a component that others have.
pub(in crate::cli) async fn fetch_bytes(
    settings: &Settings,
    client: &ClientSettings,
    mcid: &Mcid,
) -> Result<Vec<u8>, Failure> {
    let explained = |failure| client::with_grantor(failure, settings, Operation::Fetch, mcid.as_str());
    let mesh = client::connect(settings, client).await.map_err(explained)?;
    let file = file::unnamed(settings.home.path())?;
    let options = FetchOptions { size: None, have: GroupSet::new(), patience: client.timeout };
    let outcome = mesh.fetch(mcid, Box::new(file::Sink::new(&file)?), options).finish().await;
    mesh.close().await;
    outcome.map_err(|error| explained(failure(&error)))?;
    Ok(file::whole(file, COMPONENT_BYTES_MAX)?)
}

fn failure(error: &FetchError) -> Failure {
    let kind = match error {
        FetchError::Denied(_) => Kind::Denied,
        FetchError::NotFound(_) => Kind::NotFound,
        FetchError::Unavailable { .. } => Kind::Unreachable,
        _ => Kind::Failed,
    };
    Failure::new(kind, error)
}
