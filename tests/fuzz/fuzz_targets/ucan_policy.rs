//! Policies: what is read writes what is read to the same, within its bounds, and is evaluated in bounded time: twice to the
//! same answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use macula_ucan::{Glob, Ipld, Policy, Selector, limits::POLICY_STATEMENTS_MAX};

fuzz_target!(|data: &[u8]| {
    // Data as a token holds it: policy and arguments, one behind the other.
    let mut values = data;
    let mut next = || serde_ipld_dagcbor::de::from_reader_once(&mut values).unwrap_or(Ipld::Null);
    let (written, arguments): (Ipld, Ipld) = (next(), next());
    if let Ok(policy) = Policy::from_ipld(&written) {
        assert!(policy.statements().len() <= POLICY_STATEMENTS_MAX);
        assert_eq!(policy.to_ipld(), written);
        assert_eq!(Policy::from_ipld(&policy.to_ipld()).as_ref(), Ok(&policy));
        assert_eq!(Policy::new(policy.statements().to_vec()).as_ref(), Ok(&policy));
        for of in [&arguments, &written] {
            assert_eq!(policy.matches(of), policy.matches(of));
        }
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(selector) = text.parse::<Selector>() {
        assert_eq!(selector.as_str(), text);
    }
    let (glob, text) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(glob) = glob.parse::<Glob>() {
        assert_eq!(glob.as_str().parse::<Glob>().as_ref(), Ok(&glob));
        assert!(glob.as_str().contains(['*', '\\']) || glob.matches(text) == (glob.as_str() == text));
    }
});
