//! What records of slots and packages say: any arguments, as DAG-CBOR. Nothing panics, and what is read is written alike.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use macula_auth::{
    SignedRecord,
    ucan::{Cid, Ipld},
};
use macula_deploy::{Deployment, Package, PackageId, PackageQuery};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(id) = text.parse::<PackageId>() {
            assert_eq!(id.to_string().parse().as_ref(), Ok(&id));
            assert!(id.record_topic().is_none_or(|topic| PackageId::of_record_topic(&topic) == Some(id)));
        }
        if let Ok(query) = text.parse::<PackageQuery>() {
            assert_eq!(query.to_string().parse(), Ok(query));
        }
    }
    let Ok(arguments) = serde_ipld_dagcbor::from_slice::<BTreeMap<String, Ipld>>(data) else { return };
    let signer = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().unwrap();
    let (slot, realm) = ("io.example.app/alerts".parse().unwrap(), "io.example".parse().unwrap());
    let record = SignedRecord { id: Cid::default(), signer, arguments, issued: 1, expires: None };
    if let Ok(deployment) = Deployment::read(&record, &slot, &realm) {
        let again = SignedRecord { arguments: deployment.to_arguments().unwrap(), ..record.clone() };
        assert_eq!(Deployment::read(&again, &slot, &realm), Ok(deployment));
    }
    if let Ok(package) = Package::read(&record, &realm) {
        let again = SignedRecord { arguments: package.to_arguments(&realm), ..record };
        assert_eq!(Package::read(&again, &realm), Ok(package));
    }
});
