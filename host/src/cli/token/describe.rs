//! Tokens in words: who, what, until when, through whom.

use macula_node::{
    auth::{
        Pins, Terms,
        ucan::{Delegation, Invocation, Ipld, Policy},
    },
    wire::{NodeId, RealmName},
};

use crate::output::utc;

/// One delegation, as the lines of a tree below `indent`.
pub(super) fn delegation(delegation: &Delegation, realms: &Pins, now: u64, indent: &str) -> Vec<String> {
    let mut lines = vec![format!("{indent}{} on {}", delegation.command(), names(delegation.policy()))];
    lines.push(format!("{indent}  from    {}", delegation.issuer()));
    lines.push(format!("{indent}  to      {}", delegation.audience()));
    match delegation.subject() {
        Some(subject) => lines.push(format!("{indent}  root    {}", root(subject, realms))),
        None => lines.push(format!("{indent}  root    anybody whose rights the issuer holds")),
    }
    if let Some(bound) = bound(delegation.policy()) {
        lines.push(format!("{indent}  for     {bound}"));
    }
    lines.push(until_line(indent, delegation.expires(), now));
    if let Some(from) = delegation.not_before().filter(|from| *from > now) {
        lines.push(format!("{indent}  not before {}", utc(from)));
    }
    for (name, value) in delegation.meta() {
        lines.push(format!("{indent}  {name} = {}", value_text(value)));
    }
    lines.push(format!("{indent}  cid     {}", delegation.cid()));
    lines
}

/// An invocation, likewise.
pub(super) fn invocation(invocation: &Invocation, now: u64, indent: &str) -> Vec<String> {
    let mut lines = vec![format!("{indent}asks for {} {}", invocation.command(), arguments(invocation))];
    lines.push(format!("{indent}  by      {}", invocation.issuer()));
    lines.push(format!("{indent}  root    {}", invocation.subject()));
    if let Some(audience) = invocation.audience() {
        lines.push(format!("{indent}  of      {audience}"));
    }
    lines.push(until_line(indent, invocation.expires(), now));
    lines.extend(invocation.proofs().iter().map(|proof| format!("{indent}  proof   {proof}")));
    lines.push(format!("{indent}  cid     {}", invocation.cid()));
    lines
}

fn arguments(invocation: &Invocation) -> String {
    invocation
        .arguments()
        .iter()
        .map(|(name, value)| format!("{name}={}", value_text(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The names that a policy is about, as patterns; a policy of another form as it stands.
pub(super) fn names(policy: &Policy) -> String {
    match Terms::read(policy) {
        Ok(terms) => terms.scope.patterns().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Err(_) => format!("what its policy says: {}", value_text(&policy.to_ipld())),
    }
}

fn bound(policy: &Policy) -> Option<String> {
    let binding = Terms::read(policy).ok()?.binding;
    let plugin = binding.plugin.map(|plugin| format!("the component {plugin}"));
    let slot = binding.slot.map(|slot| format!("what slot {slot} holds"));
    match (plugin, slot) {
        (Some(plugin), Some(slot)) => Some(format!("{plugin}, as {slot}")),
        (plugin, slot) => plugin.or(slot),
    }
}

fn until_line(indent: &str, expires: Option<u64>, now: u64) -> String {
    let word = if expires.is_some_and(|expires| expires < now) { "expired" } else { "until  " };
    format!("{indent}  {word} {}", time(expires, now))
}

/// A key, and the realm of which it is the root here.
fn root(key: &NodeId, realms: &Pins) -> String {
    match realm_of(key, realms) {
        Some(realm) => format!("{key} (realm {realm})"),
        None => key.to_string(),
    }
}

/// The realm of which a key is the root here.
pub(super) fn realm_of<'a>(root: &NodeId, realms: &'a Pins) -> Option<&'a RealmName> {
    realms.iter().find(|(_, pinned)| *pinned == root).map(|(name, _)| name)
}

/// Until when it holds, or since when it does not any more.
pub(super) fn until(expires: Option<u64>, now: u64) -> String {
    match expires {
        None => "without end".into(),
        Some(expires) if expires < now => format!("expired {}", time(Some(expires), now)),
        expires => format!("until {}", time(expires, now)),
    }
}

/// A time, and how far away it is.
fn time(time: Option<u64>, now: u64) -> String {
    let Some(time) = time else { return "no end".into() };
    let away = if time < now { format!("{} ago", span(now - time)) } else { format!("in {}", span(time - now)) };
    format!("{} ({away})", utc(time))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn value_text(value: &Ipld) -> String {
    match value {
        Ipld::Null => "null".into(),
        Ipld::Bool(value) => value.to_string(),
        Ipld::Integer(value) => value.to_string(),
        Ipld::Float(value) => value.to_string(),
        Ipld::String(text) => format!("{text:?}"),
        Ipld::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Ipld::List(list) => format!("[{}]", list.iter().map(value_text).collect::<Vec<_>>().join(", ")),
        Ipld::Map(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key:?}: {}", value_text(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Ipld::Link(cid) => cid.to_string(),
    }
}

/// The same for programs.
pub(super) fn json(delegation: &Delegation, realms: &Pins) -> serde_json::Value {
    let terms = Terms::read(delegation.policy()).ok();
    let patterns = terms.as_ref().map(|terms| terms.scope.patterns());
    let binding = terms.map(|terms| terms.binding);
    serde_json::json!({
        "cid": delegation.cid().to_string(),
        "issuer": delegation.issuer(),
        "audience": delegation.audience(),
        "subject": delegation.subject(),
        "realm": delegation.subject().and_then(|subject| realm_of(subject, realms)),
        "command": delegation.command().as_str(),
        "topics": patterns,
        "plugin": binding.as_ref().and_then(|binding| binding.plugin.as_ref()),
        "slot": binding.as_ref().and_then(|binding| binding.slot.as_ref()).map(ToString::to_string),
        "expires": delegation.expires(),
        "not-before": delegation.not_before(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(unix), text);
        }
        assert_eq!(until(Some(951_782_400), 951_782_400 + 60), "expired 2000-02-29T00:00:00Z (60 s ago)");
        assert_eq!(until(None, 0), "without end");
    }
}
