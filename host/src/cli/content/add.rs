//! `macula-host content add FILE|-`
//!
//! The file is offered from here, and the node fetches it, as it fetches everything: verified, and only what it lacks.

use std::{fs::File, io, path::Path, time::Duration};

use macula_files::NotRead;

use super::{Node, file, progress::Progress};
use crate::{
    cli::{CommonFlags, home, publish::unread},
    content_admin::{Action, FetchReport},
    failure::Failure,
    output,
};

/// How often the node is asked how it is getting on.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn run(node: &Node<'_>, common: &CommonFlags, path: &Path) -> Result<(), Failure> {
    let offered = super::offer(&node.admin.mesh, open(path)?)?;
    let mcid = &offered.mcid;
    let _: bool = node.ask(Action::Fetch, Some(mcid)).await?;
    let mut progress = Progress::new(common);
    loop {
        match node.ask(Action::State, Some(mcid)).await? {
            FetchReport::Running { bytes, total, providers, rate } => progress.show(bytes, total, providers, rate),
            FetchReport::Done => break,
            FetchReport::Failed { .. } if offered.has_changed() => {
                // What the node has of it, if anything, is no use to anybody: nobody has the rest.
                drop(node.ask::<bool>(Action::Remove, Some(mcid)).await);
                let text = format!("{} changed while it was stored; nothing of it is kept; try again", path.display());
                return Err(Failure::failed(text));
            }
            FetchReport::Failed { fault } => return Err(Failure::from(fault).during("the node could not store it")),
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    drop(progress);
    if common.json {
        output::json(&serde_json::json!({ "state": "done", "mcid": mcid }));
    } else {
        output::line(mcid);
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, Failure> {
    if path.as_os_str() == "-" {
        let mut spooled = file::unnamed(home()?.path())?;
        io::copy(&mut io::stdin().lock(), &mut spooled).map_err(unread)?;
        return Ok(spooled);
    }
    macula_files::open(path).map_err(|error| match error.why {
        NotRead::Kind(_) => Failure::failed(format!("{error}; '-' reads standard input")),
        _ => error.into(),
    })
}
