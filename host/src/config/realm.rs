//! Realms: which one, and what lets this user's nodes into it.

use std::{path::PathBuf, sync::Arc};

use macula_node::{
    AuthLevel, Home, RealmAccess, StoredTokens, TokenSource,
    auth::check_clock,
    wire::{NodeId, RealmName},
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
        (None, None, None) => "local.dev".parse().expect("a constant name"),
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
    check_clock_for(name, is_local, unix_now())?;
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
    for path in tokens {
        if let Err(error) = StoredTokens::read(path).tokens {
            return Err(token_failure(path, &error));
        }
    }
    let holders = home.keys()?.into_iter().map(|(_, key)| key).collect();
    Ok(RealmAccess::by_tokens(name.clone(), root, source(home, tokens), holders))
}

/// The realms that a relay of this home may have a right to serve.
pub(super) fn served(home: &Home, tokens: &[PathBuf]) -> Result<Vec<RealmAccess>, Failure> {
    let mut served = vec![home.local_realm()?];
    for realm in home.realms()? {
        if served.iter().any(|known| *known.name() == realm.name) {
            continue;
        }
        served.push(match home.realm_key(&realm.name)? {
            Some(key) if realm.has_key => RealmAccess::by_root(realm.name, key),
            _ => by_tokens(home, &realm.name, realm.root, tokens)?,
        });
    }
    Ok(served)
}

/// Reads the named files and those of the home, anew each time. One that has become unreadable is left out, and said.
fn source(home: &Home, tokens: &[PathBuf]) -> TokenSource {
    let (home, named) = (home.clone(), tokens.to_vec());
    Arc::new(move || {
        let stored = home.tokens().unwrap_or_else(|error| {
            tracing::warn!(%error, "the tokens of this home cannot be read");
            Vec::new()
        });
        let named = named.iter().map(|path| StoredTokens::read(path));
        let files = named.chain(stored).inspect(|stored| {
            if let Err(error) = &stored.tokens {
                tracing::warn!(path = %stored.path.display(), %error, "a file of tokens is left out");
            }
        });
        files.flat_map(StoredTokens::into_delegations).collect()
    })
}

/// Why a file that somebody named gives no tokens.
pub(crate) fn token_failure(path: &std::path::Path, error: &macula_node::TokenFileError) -> Failure {
    let kind = match error {
        macula_node::TokenFileError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
        macula_node::TokenFileError::Io(_) => Kind::Failed,
        _ => Kind::Denied,
    };
    Failure::new(kind, format!("{}: {error} ({})", path.display(), error.name()))
}

/// A clock that is behind this program cannot tell what has expired: only the realm of this machine goes on.
fn check_clock_for(name: &RealmName, is_local: bool, now: u64) -> Result<(), Failure> {
    let built = BUILT.parse().expect("the build script writes a number");
    match check_clock(now, built) {
        Err(behind) if is_local => tracing::warn!("{behind}; realm {name} is for this machine and goes on"),
        Err(behind) => return Err(Failure::failed(format!("{behind}; set it before you act in realm {name}"))),
        Ok(()) => {}
    }
    Ok(())
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_build_is_refused_but_on_this_machine() {
        let name = "io.example".parse().unwrap();
        let refused = check_clock_for(&name, false, 1).unwrap_err().to_string();
        assert!(refused.contains("before this program was built"), "{refused}");
        assert!(check_clock_for(&name, true, 1).is_ok());
        assert!(check_clock_for(&name, false, unix_now()).is_ok());
    }
}
