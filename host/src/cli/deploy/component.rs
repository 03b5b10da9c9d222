//! What is deployed or registered: a file, a folder that is built first, content, or a package.

use std::{fs::File, path::Path, time::Duration};

use macula_node::{Mesh, deploy::PackageQuery, wire::Mcid};
use macula_runtime::{Manifest, ManifestText};

use crate::{
    cli::{build, content, registry},
    failure::Failure,
    named_component::Named,
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
        let read = |path: &Path| macula_runtime::read_manifest_text(path);
        let file = match Named::parse(path)? {
            Named::Content(mcid) => {
                return Ok(Self { from: From::Mesh(mcid), manifest: manifest.map(read).transpose()? });
            }
            Named::Package(query) => {
                return Ok(Self { from: From::Package(query), manifest: manifest.map(read).transpose()? });
            }
            Named::Folder => build::build(path, None)?.component,
            Named::File | Named::Nothing => path.to_owned(),
        };
        let bytes = macula_runtime::read_component(&file)?;
        // What no host would run is refused here and now.
        let inspection =
            macula_runtime::examine(&bytes).map_err(|refusal| Failure::failed(refusal).during(file.display()))?;
        let beside = Some(file.with_extension("toml")).filter(|beside| beside.exists() && !path.is_dir());
        let path = manifest.map(Path::to_owned).or(beside);
        let manifest = path.as_deref().map(read).transpose()?;
        let (origin, stem) = (path.unwrap_or_default().display().to_string(), file.file_stem().unwrap_or_default());
        let text = manifest.as_deref().map(|text| ManifestText { origin: &origin, text });
        Manifest::resolve(inspection.manifest.as_deref(), text, &stem.to_string_lossy()).map_err(Failure::usage)?;
        Ok(Self { from: From::File(macula_files::open(&file)?), manifest })
    }

    /// Its id; a file is offered from here, for a host to fetch.
    pub(in crate::cli) async fn offer(&self, mesh: &Mesh, timeout: Duration) -> Result<Mcid, Failure> {
        match &self.from {
            From::Mesh(mcid) => Ok(mcid.clone()),
            From::File(file) => Ok(content::offer(mesh, file.try_clone()?)?.mcid.clone()),
            From::Package(query) => {
                let asked = Asked::Find { package: query.to_string() };
                let found = registry::proved(mesh, &asked, timeout).await?.filter(|found| query.fits(found));
                Ok(found.ok_or_else(|| Failure::not_found(format!("no version of {} fits", query.name)))?.mcid)
            }
        }
    }
}
