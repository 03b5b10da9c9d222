//! `macula-host content get MCID [-o FILE]`

use std::path::Path;

use macula_node::{
    FetchError, FetchOptions,
    content::GroupSet,
    wire::{Mcid, Operation},
};

use super::{file, progress::Progress};
use crate::{
    cli::{CommonFlags, client},
    compose::{COMPONENT_BYTES_MAX, stop_signal},
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
    let mesh = client::connect(settings, client).await.map_err(explained)?;
    let target = match path {
        Some(path) => file::Target::at(path)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?,
        None => file::Target::unnamed(settings.home.path())?,
    };
    let options = FetchOptions { size: None, have: GroupSet::new(), patience: client.timeout };
    let fetching = mesh.fetch(mcid, Box::new(file::Sink::new(target.copy()?)), options);
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
    if let Err(failure) = outcome {
        target.discard();
        return Err(failure);
    }
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
    let target = file::Target::unnamed(settings.home.path())?;
    let options = FetchOptions { size: None, have: GroupSet::new(), patience: client.timeout };
    let outcome = mesh.fetch(mcid, Box::new(file::Sink::new(target.copy()?)), options).finish().await;
    mesh.close().await;
    outcome.map_err(|error| explained(failure(&error)))?;
    Ok(target.read(COMPONENT_BYTES_MAX)?)
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
