//! The names that the store gives to files, and no others: so no name leads out of the folder.

use std::fmt;

use macula_wire::{Digest, Mcid};

/// Name of a file in the store's folder. [`fmt::Display`] gives its path there, parts separated by `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The index, `index.redb`.
    Index,
    /// An index that was damaged and set aside: `index.redb.damaged-7`.
    DamagedIndex(u64),
    /// The bytes of content: `data/ab/bafk….data`.
    Data(Digest),
    /// Its outboard: `data/ab/bafk….tree`.
    Tree(Digest),
    /// What is being written and has no other name yet: `draft/7`.
    Draft(u64),
}

impl Name {
    /// The name of which `path` is the [`fmt::Display`]; `None` for every other text.
    pub fn parse(path: &str) -> Option<Self> {
        let name = if path == "index.redb" {
            Self::Index
        } else if let Some(number) = path.strip_prefix("index.redb.damaged-") {
            Self::DamagedIndex(number.parse().ok()?)
        } else if let Some(number) = path.strip_prefix("draft/") {
            Self::Draft(number.parse().ok()?)
        } else {
            let (_, file) = path.strip_prefix("data/")?.split_once('/')?;
            let (mcid, kind) = file.split_once('.')?;
            let digest = mcid.parse::<Mcid>().ok()?.digest();
            match kind {
                "data" => Self::Data(digest),
                "tree" => Self::Tree(digest),
                _ => return None,
            }
        };
        // A number with a plus sign, or a folder that is not the content's, are other paths.
        (name.to_string() == path).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut content = |digest: &Digest, kind| {
            let mcid = Mcid::from(*digest);
            let text = mcid.as_str();
            write!(f, "data/{}/{text}.{kind}", &text[text.len() - 2..])
        };
        match self {
            Self::Index => f.write_str("index.redb"),
            Self::DamagedIndex(number) => write!(f, "index.redb.damaged-{number}"),
            Self::Data(digest) => content(digest, "data"),
            Self::Tree(digest) => content(digest, "tree"),
            Self::Draft(number) => write!(f, "draft/{number}"),
        }
    }
}
