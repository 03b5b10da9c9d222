//! What is deployed or registered: a file, a folder that is built first, content, or a package.

use std::{fs::File, path::Path, time::Duration};

use macula_node::{Mesh, deploy::PackageQuery, wire::Mcid};
use macula_runtime::{Manifest, ManifestText};

use crate::{
    cli::{build, content, registry},
    failure::Failure,
    registry::Asked,
};

/// What is to be deployed or registered.
pub(in crate::cli) struct Component {
    from: From,
    pub(super) manifest: Option<String>,
}

enum From {
    File(File),
    /// Who has it gives it.
    Mesh(Mcid),
    /// What the registry says.
    Package(PackageQuery),
}

impl Component {
    pub(in crate::cli) fn of(path: &Path, manifest: Option<&Path>) -> Result<Self, Failure> {
        let text = path.to_string_lossy();
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(|error| Failure::from(error).during(path.display()));
        if !path.exists() && text.starts_with("bafkr") && !text.contains(['/', '.']) {
            let mcid = text.parse().map_err(Failure::usage)?;
            return Ok(Self { from: From::Mesh(mcid), manifest: manifest.map(read).transpose()? });
        }
        if !path.exists() && text.contains('@') && !text.contains('/') && !text.ends_with(".wasm") {
            let query = text.parse().map_err(Failure::usage)?;
            return Ok(Self { from: From::Package(query), manifest: manifest.map(read).transpose()? });
        }
        let file = if path.is_dir() { build::build(path, None)?.component } else { path.to_owned() };
        let failed = |error: std::io::Error| Failure::from(error).during(file.display());
        let bytes = std::fs::read(&file).map_err(failed)?;
        // What no host would run is refused here and now.
        let inspection =
            macula_runtime::inspect(&bytes).map_err(|refusal| Failure::failed(refusal).during(file.display()))?;
        let beside = Some(file.with_extension("toml")).filter(|beside| beside.is_file() && !path.is_dir());
        let path = manifest.map(Path::to_owned).or(beside);
        let manifest = path.as_deref().map(read).transpose()?;
        let (origin, stem) = (path.unwrap_or_default().display().to_string(), file.file_stem().unwrap_or_default());
        let text = manifest.as_deref().map(|text| ManifestText { origin: &origin, text });
        Manifest::resolve(inspection.manifest.as_deref(), text, &stem.to_string_lossy()).map_err(Failure::usage)?;
        Ok(Self { from: From::File(File::open(&file).map_err(failed)?), manifest })
    }

    /// Its id; a file is offered from here, for a host to fetch.
    pub(in crate::cli) async fn offer(&self, mesh: &Mesh, timeout: Duration) -> Result<Mcid, Failure> {
        match &self.from {
            From::Mesh(mcid) => Ok(mcid.clone()),
            From::File(file) => Ok(content::offer(mesh, file.try_clone()?)?),
            From::Package(query) => {
                let asked = Asked::Find { package: query.to_string() };
                let found = registry::proved(mesh, &asked, timeout).await?.filter(|found| query.fits(found));
                Ok(found.ok_or_else(|| Failure::not_found(format!("no version of {} fits", query.name)))?.mcid)
            }
        }
    }
}
