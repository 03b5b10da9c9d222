//! Realms: which one, and what lets this user's nodes into it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use macula_node::{
    AuthLevel, Home, LOCAL_REALM, RealmAccess, StoredTokens, TokenSource,
    auth::{check_clock, ucan::Delegation},
    unix_now,
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
    match clock(unix_now()) {
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

/// The realms that a relay of this home may have a right to serve.
pub(super) fn served(home: &Home, tokens: &[PathBuf]) -> Result<Vec<RealmAccess>, Failure> {
    let mut served = vec![home.local_realm()?];
    for realm in home.realms()? {
        if served.iter().any(|known| *known.name() == realm.name) {
            continue;
        }
        if let Err(failure) = clock(unix_now()) {
            tracing::error!("realm {} is not served: {failure}", realm.name);
            continue;
        }
        served.push(match home.realm_key(&realm.name)? {
            Some(key) if realm.has_key => RealmAccess::by_root(realm.name, key),
            _ => by_tokens(home, &realm.name, realm.root, tokens)?,
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
        macula_node::TokenFileError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
        macula_node::TokenFileError::Io(_) => Kind::Failed,
        _ => Kind::Denied,
    };
    Failure::new(kind, format!("{}: {error} ({})", path.display(), error.name()))
}

/// A clock that is behind this program cannot tell what has expired.
fn clock(now: u64) -> Result<(), Failure> {
    let built = BUILT.parse().expect("the build script writes a number");
    check_clock(now, built).map_err(|behind| Failure::failed(format!("{behind}; set it first")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every realm but the one of this machine is refused for.
    #[test]
    fn a_clock_before_the_build_is_refused() {
        let refused = clock(1).unwrap_err().to_string();
        assert!(refused.contains("before this program was built") && refused.contains("set it first"), "{refused}");
        assert!(clock(unix_now()).is_ok());
    }
}
