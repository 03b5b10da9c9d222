//! The official vectors, by name: `tests/vectors/`, whose SOURCES.md says where they come from.

use std::{collections::HashMap, sync::Arc};

use data_encoding::{BASE64, BASE64_NOPAD};
use ed25519_dalek::SigningKey;
use macula_ucan::{Clock, Delegation, DelegationFields, Invocation, Ipld, Policy, TokenError};
use serde_json::Value;

fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("a vector file is JSON")
}

/// DAG-JSON bytes.
fn bytes(value: &Value) -> Vec<u8> {
    BASE64_NOPAD.decode(value["/"]["bytes"].as_str().expect("bytes").as_bytes()).expect("base64")
}

fn ipld(value: &Value) -> Ipld {
    serde_json::from_value(value.clone()).expect("JSON is data")
}

/// Verifies an invocation as its vector says; the error's name.
fn verify(vector: &Value) -> Result<(), String> {
    let invocation = Invocation::decode(&bytes(&vector["invocation"])).map_err(|error| error.name().to_owned())?;
    let mut proofs = HashMap::new();
    for proof in vector["proofs"].as_array().expect("a list") {
        let proof = Delegation::decode(&bytes(proof)).map_err(|error: TokenError| error.name().to_owned())?;
        proofs.insert(*proof.cid(), Arc::new(proof));
    }
    let clock = Clock { now: vector["time"].as_u64().expect("a time"), skew: 0 };
    let verified = invocation.verify(|cid| proofs.get(cid).cloned(), &clock, |_, _| false);
    verified.map(|_| ()).map_err(|error| error.name().to_owned())
}

#[test]
fn invocations() {
    let vectors = read(include_str!("vectors/invocation.json"));
    let mut count = 0;
    for vector in vectors["valid"].as_array().unwrap() {
        assert_eq!(verify(vector), Ok(()), "{}: {}", vector["name"], vector["description"]);
        count += 1;
    }
    for vector in vectors["invalid"].as_array().unwrap() {
        let expected = vector["error"]["name"].as_str().unwrap().to_owned();
        assert_eq!(verify(vector), Err(expected), "{}: {}", vector["name"], vector["description"]);
        count += 1;
    }
    assert_eq!(count, 20);
}

/// What the vector describes, signed with its key, is the vector, byte for byte.
#[test]
fn delegations() {
    let vectors = read(include_str!("vectors/delegation.json"));
    // base64 of a varint (2 bytes) and the key's seed.
    let key = |name: &str| {
        let bytes = BASE64.decode(vectors["principals"][name].as_str().unwrap().as_bytes()).unwrap();
        SigningKey::from_bytes(bytes[2..].try_into().unwrap())
    };
    for vector in vectors["valid"].as_array().unwrap() {
        let token = BASE64.decode(vector["token"].as_str().unwrap().as_bytes()).unwrap();
        let payload = &vector["envelope"]["payload"];
        let text = |field: &str| payload[field].as_str().unwrap();
        let delegation = Delegation::decode(&token).unwrap_or_else(|error| panic!("{}: {error}", vector["name"]));
        assert_eq!(delegation.cid().to_string(), vector["cid"].as_str().unwrap(), "{}", vector["name"]);
        let fields = DelegationFields {
            audience: text("aud").parse().unwrap(),
            subject: Some(text("sub").parse().unwrap()),
            command: text("cmd").parse().unwrap(),
            policy: Policy::any(),
            expires: payload["exp"].as_u64(),
            not_before: None,
            nonce: BASE64.decode(text("nonce").as_bytes()).unwrap(),
            meta: Default::default(),
        };
        let ours = fields.sign(&key("bob")).unwrap();
        assert_eq!(ours.bytes(), token, "{}", vector["name"]);
        assert_eq!(*ours.issuer(), text("iss").parse().unwrap());
    }
}

#[test]
fn policies() {
    let vectors = read(include_str!("vectors/policy.json"));
    for (kind, holds) in [("valid", true), ("invalid", false)] {
        for vector in vectors[kind].as_array().unwrap() {
            let arguments = ipld(&vector["args"]);
            for policy in vector["policies"].as_array().unwrap() {
                let read = Policy::from_ipld(&ipld(policy)).unwrap_or_else(|error| panic!("{policy}: {error}"));
                assert_eq!(read.matches(&arguments), holds, "{kind}: {policy} of {}", vector["args"]);
                assert_eq!(Policy::from_ipld(&read.to_ipld()), Ok(read), "{policy}");
            }
        }
    }
}
