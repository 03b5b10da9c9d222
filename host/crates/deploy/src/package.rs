//! Packages: components under a name and a version, as whoever owns the name signs them.
//!
//! A package is a lasting signed record whose command is `/mesh/deploy`. Its arguments:
//!
//! ```text
//! topic    the name, which the proofs must cover          "io.example.greeter"
//! realm    the realm's name                               "io.example"
//! version  as of Semantic Versioning 2.0.0, without build "1.2.3"
//! mcid     the component                                  "bafkr4i…"
//! seq      0 for the first record of a version, one more each time
//! yanked   true: nobody begins to use it
//! ```
//!
//! Anything else is refused. A version's component never changes: later records of it may only yank it, or take that back.

use std::{collections::BTreeMap, fmt, str::FromStr};

use macula_auth::{Namespace, SignedRecord, ucan::Ipld};
use macula_wire::{Mcid, Pattern, RealmName, Topic};
use semver::{BuildMetadata, Version, VersionReq};

use crate::SEQ_MAX;

/// Topics that records of packages are on, each the stored value of its topic.
const PACKAGES_PREFIX: &str = "_mesh.packages.";
/// Characters of a version; it has to fit a segment of a topic.
const VERSION_BYTES_MAX: usize = 63;
/// Versions that a catalog holds. What comes then is refused.
const PACKAGES_MAX: usize = 16_384;

/// A version of a package: `io.example.greeter@1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId {
    /// Its name; whose it is, is the owner of that name.
    pub name: Namespace,
    /// Its version.
    pub version: Version,
}

/// What somebody wants to have: `io.example.greeter@1.2.3`, or any version that fits, `io.example.greeter@^1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageQuery {
    /// Its name.
    pub name: Namespace,
    versions: Versions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Versions {
    One(Version),
    Fitting(VersionReq),
}

/// Why text names no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Not two parts with an `@` between them.
    #[error("{0:?} is no package (expected a name and a version, like io.example.greeter@1.2.3)")]
    Form(String),
    /// What stands before the `@` is no name.
    #[error("{0}")]
    Name(String),
    /// What stands behind it is no version, or has build metadata, by which versions would not be told apart.
    #[error("{text:?} is no version: {why}")]
    Version {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl PackageId {
    /// The name as rights are about it.
    pub fn topic(&self) -> Topic {
        self.name.as_str().parse().expect("a namespace is a topic")
    }

    /// Where its record is. `None` when the name has too many labels for it.
    pub fn record_topic(&self) -> Option<Topic> {
        // A version has dots, and neither '_' nor '+'.
        let version = self.version.to_string().replace('.', "_");
        format!("{PACKAGES_PREFIX}{}.{version}", self.name).parse().ok()
    }

    /// The package whose record is on a topic.
    pub fn of_record_topic(topic: &Topic) -> Option<Self> {
        let (name, version) = topic.strip_prefix(PACKAGES_PREFIX)?.rsplit_once('.')?;
        format!("{name}@{}", version.replace('_', ".")).parse().ok()
    }

    /// All topics with records.
    pub fn record_pattern() -> Pattern {
        format!("{PACKAGES_PREFIX}**").parse().expect("a constant of the grammar")
    }
}

impl FromStr for PackageId {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, PackageError> {
        let (name, version) = split(text)?;
        Ok(Self { name, version: parse_version(version)? })
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl PackageQuery {
    /// Whether a version is wanted.
    pub fn matches(&self, package: &PackageId) -> bool {
        package.name == self.name
            && match &self.versions {
                Versions::One(version) => package.version == *version,
                Versions::Fitting(wanted) => wanted.matches(&package.version),
            }
    }

    /// Whether a version may be used: it is wanted, and was not yanked unless it was asked for by its very number.
    pub fn fits(&self, package: &Package) -> bool {
        self.matches(&package.id) && (self.is_exact() || !package.is_yanked)
    }

    /// Whether it names one version.
    pub fn is_exact(&self) -> bool {
        matches!(self.versions, Versions::One(_))
    }
}

impl fmt::Display for PackageQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.versions {
            Versions::One(version) => write!(f, "{}@{version}", self.name),
            Versions::Fitting(wanted) => write!(f, "{}@{wanted}", self.name),
        }
    }
}

impl FromStr for PackageQuery {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, PackageError> {
        let (name, wanted) = split(text)?;
        // A whole version is that version, and not what it would be as a requirement: anything compatible.
        if let Ok(version) = parse_version(wanted) {
            return Ok(Self { name, versions: Versions::One(version) });
        }
        let wanted = VersionReq::parse(wanted)
            .map_err(|error| PackageError::Version { text: cut(wanted), why: error.to_string() })?;
        Ok(Self { name, versions: Versions::Fitting(wanted) })
    }
}

fn split(text: &str) -> Result<(Namespace, &str), PackageError> {
    let (name, version) = text.split_once('@').ok_or_else(|| PackageError::Form(cut(text)))?;
    let name = name.parse().map_err(|error: macula_auth::NamespaceError| PackageError::Name(error.to_string()))?;
    Ok((name, version))
}

fn parse_version(text: &str) -> Result<Version, PackageError> {
    let refused = |why: &str| PackageError::Version { text: cut(text), why: why.to_owned() };
    let version = Version::parse(text).map_err(|error| refused(&error.to_string()))?;
    if version.build != BuildMetadata::EMPTY {
        return Err(refused("build metadata (what follows '+') tells no versions apart"));
    }
    if text.len() > VERSION_BYTES_MAX {
        return Err(refused("it is too long"));
    }
    Ok(version)
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What a record says of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Which version.
    pub id: PackageId,
    /// The component.
    pub mcid: Mcid,
    /// 0 for the first record of a version, one more each time.
    pub seq: u64,
    /// Nobody begins to use it.
    pub is_yanked: bool,
}

/// Why a record says nothing of a package, or is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageRefused {
    /// Something is missing, or not what it should be.
    #[error("the record's `{0}` is missing or malformed")]
    Field(&'static str),
    /// It says something that this version does not know.
    #[error("the record has `{0}`, which this version does not know")]
    Unknown(String),
    /// It is for another realm.
    #[error("the record is for the realm {0}")]
    Realm(RealmName),
    /// A version's component never changes.
    #[error("{id} is {known} already, for good; push a new version")]
    Immutable {
        /// The version.
        id: PackageId,
        /// Its component.
        known: Mcid,
    },
    /// A newer record of the version is known.
    #[error("a newer record of {0} is known")]
    Older(PackageId),
    /// No more versions are taken.
    #[error("more than {PACKAGES_MAX} versions are registered")]
    Full,
}

impl Package {
    /// The arguments of the record.
    pub fn to_arguments(&self, realm: &RealmName) -> BTreeMap<String, Ipld> {
        let text = |text: &dyn fmt::Display| Ipld::String(text.to_string());
        BTreeMap::from([
            ("topic".to_owned(), text(&self.id.name)),
            ("realm".to_owned(), text(realm)),
            ("version".to_owned(), text(&self.id.version)),
            ("mcid".to_owned(), text(&self.mcid)),
            ("seq".to_owned(), Ipld::Integer(self.seq.into())),
            ("yanked".to_owned(), Ipld::Bool(self.is_yanked)),
        ])
    }

    /// Reads what a record in `realm` says of a package. That it was signed by somebody who may is checked before.
    ///
    /// # Errors
    /// See [`PackageRefused`].
    pub fn read(record: &SignedRecord, realm: &RealmName) -> Result<Self, PackageRefused> {
        let mut fields = record.arguments.clone();
        let mut text = |name: &'static str| match fields.remove(name) {
            Some(Ipld::String(text)) => Ok(text),
            _ => Err(PackageRefused::Field(name)),
        };
        let of: RealmName = text("realm")?.parse().map_err(|_| PackageRefused::Field("realm"))?;
        let name = text("topic")?.parse().map_err(|_| PackageRefused::Field("topic"))?;
        let version = parse_version(&text("version")?).map_err(|_| PackageRefused::Field("version"))?;
        let mcid = text("mcid")?.parse().map_err(|_| PackageRefused::Field("mcid"))?;
        let seq = match fields.remove("seq") {
            Some(Ipld::Integer(seq)) => u64::try_from(seq).ok().filter(|seq| *seq <= SEQ_MAX),
            _ => None,
        };
        let seq = seq.ok_or(PackageRefused::Field("seq"))?;
        let Some(Ipld::Bool(is_yanked)) = fields.remove("yanked") else { return Err(PackageRefused::Field("yanked")) };
        if let Some(name) = fields.keys().next() {
            return Err(PackageRefused::Unknown(name.chars().take(40).collect()));
        }
        if of != *realm {
            return Err(PackageRefused::Realm(of));
        }
        Ok(Self { id: PackageId { name, version }, mcid, seq, is_yanked })
    }
}

/// All packages of a realm that a node knows, with their records.
#[derive(Debug, Default)]
pub struct Catalog(BTreeMap<PackageId, (Package, Vec<u8>)>);

impl Catalog {
    /// Takes what a record, of these bytes, says. Whether it is news.
    ///
    /// # Errors
    /// [`PackageRefused::Immutable`], [`PackageRefused::Older`], [`PackageRefused::Full`]; nothing has changed then.
    pub fn insert(&mut self, package: Package, record: Vec<u8>) -> Result<bool, PackageRefused> {
        let is_news = self.check(&package)?;
        if is_news {
            self.0.insert(package.id.clone(), (package, record));
        }
        Ok(is_news)
    }

    /// Whether it would be news.
    ///
    /// # Errors
    /// As [`Catalog::insert`].
    pub fn check(&self, package: &Package) -> Result<bool, PackageRefused> {
        match self.get(&package.id) {
            Some(known) if known.mcid != package.mcid => {
                Err(PackageRefused::Immutable { id: package.id.clone(), known: known.mcid.clone() })
            }
            Some(known) if known == package => Ok(false),
            Some(known) if known.seq >= package.seq => Err(PackageRefused::Older(package.id.clone())),
            None if self.0.len() >= PACKAGES_MAX => Err(PackageRefused::Full),
            _ => Ok(true),
        }
    }

    /// What is known of a version.
    pub fn get(&self, id: &PackageId) -> Option<&Package> {
        self.0.get(id).map(|(package, _)| package)
    }

    /// The newest version that is wanted. A yanked one is found only by its very version.
    pub fn find(&self, query: &PackageQuery) -> Option<&Package> {
        self.packages().rev().find(|package| query.fits(package))
    }

    /// The record of a version.
    pub fn record(&self, id: &PackageId) -> Option<&[u8]> {
        self.0.get(id).map(|(_, record)| record.as_slice())
    }

    /// All versions, by name and then from the oldest.
    pub fn packages(&self) -> impl DoubleEndedIterator<Item = &Package> {
        self.0.values().map(|(package, _)| package)
    }

    /// All records.
    pub fn records(&self) -> impl Iterator<Item = (&PackageId, &[u8])> {
        self.0.iter().map(|(id, (_, record))| (id, record.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use macula_auth::ucan::Cid;

    use super::*;

    fn package(id: &str, component: &str) -> Package {
        Package { id: id.parse().unwrap(), mcid: Mcid::of(component.as_bytes()), seq: 0, is_yanked: false }
    }

    fn realm() -> RealmName {
        "io.example".parse().unwrap()
    }

    fn read(arguments: BTreeMap<String, Ipld>) -> Result<Package, PackageRefused> {
        let signer = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().unwrap();
        Package::read(&SignedRecord { id: Cid::default(), signer, arguments, issued: 1, expires: None }, &realm())
    }

    #[test]
    fn names_and_versions() {
        let id: PackageId = "io.example.greeter@1.2.3-rc.1".parse().unwrap();
        assert_eq!(id.to_string(), "io.example.greeter@1.2.3-rc.1");
        let topic = id.record_topic().unwrap();
        assert_eq!(topic.as_str(), "_mesh.packages.io.example.greeter.1_2_3-rc_1");
        assert_eq!(PackageId::of_record_topic(&topic), Some(id.clone()));
        assert!(PackageId::record_pattern().matches(&topic));
        for bad in ["", "a", "a@", "a@1", "a@1.2", "a@1.2.3+build", "A@1.2.3", "a@1.2.3@4", "../a@1.2.3", "a@01.2.3"] {
            assert!(bad.parse::<PackageId>().is_err(), "{bad}");
        }
        let fits = |query: &str, version: &str| {
            let id = format!("a@{version}").parse().unwrap();
            query.parse::<PackageQuery>().unwrap().matches(&id)
        };
        assert!(fits("a@^1", "1.9.0") && !fits("a@^1", "2.0.0") && !fits("b@^1", "1.0.0"));
        assert!(fits("a@1.2.3", "1.2.3") && !fits("a@1.2.3", "1.2.4"), "a whole version is that version");
        assert!(!fits("a@^1", "1.9.0-rc.1") && fits("a@1.9.0-rc.1", "1.9.0-rc.1"));
        for bad in ["a@", "a@x.y", "a@^", "a"] {
            assert!(bad.parse::<PackageQuery>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let good = package("a.b@1.0.0", "x");
        assert_eq!(read(good.to_arguments(&realm())), Ok(good.clone()));
        let other: RealmName = "io.other".parse().unwrap();
        assert!(matches!(read(good.to_arguments(&other)), Err(PackageRefused::Realm(_))));
        for (name, value) in [
            ("version", Ipld::String("1.0".into())),
            ("mcid", Ipld::String("x".into())),
            ("seq", Ipld::Integer(-1)),
            ("yanked", Ipld::Null),
            ("more", Ipld::Null),
        ] {
            let mut arguments = good.to_arguments(&realm());
            arguments.insert(name.to_owned(), value);
            assert!(read(arguments).is_err(), "{name}");
        }
    }

    #[test]
    fn a_version_never_changes_but_may_be_yanked() {
        let mut catalog = Catalog::default();
        let mut take = |package: &Package| catalog.insert(package.clone(), vec![]);
        let one = package("a@1.0.0", "one");
        assert_eq!(take(&one), Ok(true));
        assert_eq!(take(&one), Ok(false));
        assert!(matches!(take(&package("a@1.0.0", "other")), Err(PackageRefused::Immutable { .. })));
        assert_eq!(take(&package("a@1.1.0", "two")), Ok(true));
        let yanked = Package { seq: 1, is_yanked: true, ..package("a@1.1.0", "two") };
        assert_eq!(take(&yanked), Ok(true));
        assert_eq!(take(&package("a@1.1.0", "two")), Err(PackageRefused::Older("a@1.1.0".parse().unwrap())));
        let find = |query: &str| catalog.find(&query.parse().unwrap()).map(|package| package.id.version.to_string());
        assert_eq!(find("a@^1").as_deref(), Some("1.0.0"));
        assert_eq!(find("a@1.1.0").as_deref(), Some("1.1.0"), "who has it goes on with it");
        assert_eq!(find("b@^1"), None);
    }
}
