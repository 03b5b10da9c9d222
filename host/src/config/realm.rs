//! Realms: which one, and what lets this user's nodes into it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use macula_files::NotRead;
use macula_node::{
    AuthLevel, Home, LOCAL_REALM, RealmAccess, StoredTokens, TokenSource,
    auth::{check_clock, ucan::Delegation},
    unix_now, wall_now,
    wire::{NodeId, Operation, RealmName},
};

use super::{Environment, File, parse};
use crate::{
    cli::CommonFlags,
    failure::{Failure, Kind},
};

/// When this program was built, in unix seconds.
const BUILT: &str = env!("MACULA_BUILT");

/// The realm that flag, environment or file name; `local.dev` otherwise.
pub(super) fn chosen(flags: &CommonFlags, environment: &Environment, file: &File) -> Result<RealmName, Failure> {
    Ok(match (&flags.realm, &environment.realm, &file.node.realm) {
        (Some(realm), _, _) | (None, Some(realm), _) => realm.clone(),
        (None, None, Some(text)) => parse("realm", text)?,
        (None, None, None) => LOCAL_REALM.parse().expect("a constant name"),
    })
}

/// The least that the config file asks of the realm's messages.
pub(super) fn auth_min(file: &File, name: &RealmName) -> Result<AuthLevel, Failure> {
    match file.realm.get(name.as_str()).and_then(|table| table.auth_min.as_deref()) {
        Some(text) => parse("auth-min", text),
        None => Ok(AuthLevel::default()),
    }
}

/// What lets nodes and clients of this home into a realm: tokens that were named, its root key, or tokens of the home.
pub(super) fn access(home: &Home, name: &RealmName, tokens: &[PathBuf]) -> Result<RealmAccess, Failure> {
    let local = home.local_realm()?;
    let is_local = name == local.name();
    match check_wall_clock(wall_now()) {
        Err(behind) if is_local => tracing::warn!("{behind}; realm {name} is for this machine and goes on"),
        outcome => outcome?,
    }
    if is_local && tokens.is_empty() {
        return Ok(local);
    }
    let pins = home.pins()?;
    let Some(root) = pins.root(name) else {
        let known: Vec<String> = pins.iter().map(|(name, _)| name.to_string()).collect();
        let message = format!(
            "realm {name} is not known here (known: {}); its owner can tell you its root key: macula-host realm pin {name} DID",
            known.join(", ")
        );
        return Err(Failure::new(Kind::Denied, message));
    };
    if tokens.is_empty()
        && let Some(key) = home.realm_key(name)?
    {
        return Ok(RealmAccess::by_root(name.clone(), key));
    }
    by_tokens(home, name, *root, tokens)
}

fn by_tokens(home: &Home, name: &RealmName, root: NodeId, tokens: &[PathBuf]) -> Result<RealmAccess, Failure> {
    let holders: Vec<_> = home.keys()?.into_iter().map(|(_, key)| key).collect();
    let own: Vec<NodeId> = holders.iter().map(|key| key.verifying_key().into()).collect();
    let mut useless_files = Vec::new();
    for path in tokens {
        let read = StoredTokens::read(path);
        if let Err(error) = &read.tokens {
            return Err(token_failure(path, error));
        }
        let why = useless(&read.into_delegations(), &own, unix_now());
        useless_files.extend(why.map(|why| format!("{}: {why}", path.display())));
    }
    // With anything else at hand, that may be enough: a file that has expired does not stop a host from starting again.
    if !tokens.is_empty() && useless_files.len() == tokens.len() && home.token_paths()?.is_empty() {
        return Err(Failure::new(Kind::Denied, useless_files.join("; ")));
    }
    useless_files.iter().for_each(|why| tracing::warn!("{why}"));
    Ok(RealmAccess::by_tokens(name.clone(), root, source(home, tokens), holders))
}

/// Why a file of delegations gives this home nothing, if it does not. Those that say who owns names are for everybody.
fn useless(delegations: &[Arc<Delegation>], own: &[NodeId], now: u64) -> Option<String> {
    let passed_on = |last: &Delegation| delegations.iter().any(|next| next.issuer() == last.audience());
    let mut why = None;
    for last in delegations.iter().filter(|last| !passed_on(last)) {
        if last.command().as_str() == Operation::Own.command() {
            return None;
        }
        match last.expires().filter(|expires| *expires < now) {
            _ if !own.contains(last.audience()) => {
                why = Some(format!("it is for {}, which is no key of this home", last.audience()));
            }
            Some(expires) => why = Some(format!("it has expired {} s ago", now - expires)),
            None => return None,
        }
    }
    why
}

/// The realms that a relay of this home may have a right to serve. Of realms that contradict one another none is served, as nobody
/// knows which is meant; other realms are.
pub(super) fn served(home: &Home, tokens: &[PathBuf]) -> Result<Vec<RealmAccess>, Failure> {
    let mut served = vec![home.local_realm()?];
    let realms = home.realms()?;
    for realm in &realms {
        if served.iter().any(|known| *known.name() == realm.name) {
            continue;
        }
        if let Some(other) = realm.contradicted_by(&realms) {
            tracing::error!(
                "realm {} is not served: {} is its root here, and realm {} has {}; each realm has a root of its own, so take the wrong pin back: macula-host realm unpin NAME",
                realm.name,
                realm.root,
                other.name,
                other.root
            );
            continue;
        }
        if let Err(failure) = check_wall_clock(wall_now()) {
            tracing::error!("realm {} is not served: {failure}", realm.name);
            continue;
        }
        let key = home.realm_key(&realm.name)?.filter(|_| realm.has_key);
        served.push(match key {
            Some(key) => RealmAccess::by_root(realm.name.clone(), key),
            None => by_tokens(home, &realm.name, realm.root, tokens)?,
        });
    }
    Ok(served)
}

/// When a file was changed last, and how large it is.
type Version = Option<(SystemTime, u64)>;

fn version(path: &Path) -> Version {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn delegations_in(path: &Path) -> Vec<Arc<Delegation>> {
    let stored = StoredTokens::read(path);
    if let Err(error) = &stored.tokens {
        tracing::warn!(path = %path.display(), %error, "a file of tokens is left out");
    }
    stored.into_delegations()
}

/// The named files and those of the home, as they are each time. Those that have not changed are not read again; one that has
/// become unreadable is left out, and said.
fn source(home: &Home, tokens: &[PathBuf]) -> TokenSource {
    let (home, named) = (home.clone(), tokens.to_vec());
    let read = Mutex::new(BTreeMap::new());
    Arc::new(move || {
        let stored = home.token_paths().unwrap_or_else(|error| {
            tracing::warn!(%error, "the tokens of this home cannot be read");
            Vec::new()
        });
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *read);
        for path in named.iter().cloned().chain(stored) {
            let version = version(&path);
            let file = match before.get(&path) {
                Some(file @ (known, _)) if *known == version && version.is_some() => file.clone(),
                _ => (version, delegations_in(&path)),
            };
            read.insert(path, file);
        }
        read.values().flat_map(|(_, delegations)| delegations.iter().cloned()).collect()
    })
}

/// Why a file that somebody named gives no tokens.
pub(crate) fn token_failure(path: &Path, error: &macula_node::TokenFileError) -> Failure {
    let kind = match error {
        macula_node::TokenFileError::Io(NotRead::NotFound) => Kind::NotFound,
        macula_node::TokenFileError::Io(_) => Kind::Failed,
        _ => Kind::Denied,
    };
    Failure::new(kind, format!("{}: {error} ({})", path.display(), error.name()))
}

/// When this program was built, in unix seconds.
fn built() -> u64 {
    BUILT.parse().expect("the build script writes a number")
}

/// From now on, the time is never before what the home has seen.
pub(crate) fn begin_clock(home: &Home) -> Result<(), Failure> {
    Ok(macula_node::begin_clock(home, built())?)
}

/// A wall clock that is behind this program is wrong, and what it says is worth nothing.
pub(crate) fn check_wall_clock(now: u64) -> Result<(), Failure> {
    check_clock(now, built()).map_err(|behind| Failure::failed(format!("{behind}; set it first")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every realm but the one of this machine is refused for.
    #[test]
    fn a_clock_before_the_build_is_refused() {
        let refused = check_wall_clock(1).unwrap_err().to_string();
        assert!(refused.contains("before this program was built") && refused.contains("set it first"), "{refused}");
        assert!(check_wall_clock(wall_now()).is_ok());
    }

    /// Goal: two pins that contradict one another are of no realm that a relay serves; one that was made here is no matter of
    /// somebody's pin, and other realms are served.
    #[test]
    fn what_contradicts_itself_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let name = |text: &str| text.parse::<RealmName>().unwrap();
        for (realm, seed) in [("io.example", "one"), ("io.other", "other")] {
            home.pin_realm(&name(realm), &home.node_key(seed).unwrap()).unwrap();
        }
        home.new_realm(&name("io.own")).unwrap();
        let names = || {
            let served = served(&home, &[]).unwrap();
            served.iter().map(|realm| realm.name().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["local.dev", "io.example", "io.other", "io.own"]);
        let realms = directory.path().join("realms");
        std::fs::copy(realms.join("io.example.pin"), realms.join("io.copy.pin")).unwrap();
        assert_eq!(names(), ["local.dev", "io.other", "io.own"]);
        let own = home.pins().unwrap_err();
        assert!(own.to_string().contains("io.example"), "{own}");
        std::fs::remove_file(realms.join("io.copy.pin")).unwrap();
        let own = home.realms().unwrap().into_iter().find(|realm| realm.name == name("io.own"));
        let root = own.unwrap().root;
        std::fs::write(realms.join("io.copy.pin"), root.to_string()).unwrap();
        assert_eq!(names(), ["local.dev", "io.example", "io.other", "io.own"]);
    }
}
