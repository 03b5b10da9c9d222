//! `kv`: not on this host yet. `open` says so; no bucket ever comes into being.

use wasmtime::component::Resource;

use super::{HostError, InstanceState};
use crate::bindings::{kv, types};

type Bucket = Resource<kv::Bucket>;

fn forged() -> wasmtime::Error {
    wasmtime::Error::msg("a bucket that was never given out")
}

impl kv::Host for InstanceState {
    fn open(&mut self, _name: String) -> Result<Bucket, HostError> {
        Err(HostError::Guest(types::Error::Unavailable("kv is not available on this host yet".to_owned())))
    }
}

impl kv::HostBucket for InstanceState {
    fn replicated(&mut self, _bucket: Bucket) -> wasmtime::Result<bool> {
        Err(forged())
    }

    fn get(&mut self, _bucket: Bucket, _key: String) -> Result<Option<kv::Entry>, HostError> {
        Err(HostError::Trap(forged()))
    }

    fn set(&mut self, _bucket: Bucket, _key: String, _value: Vec<u8>, _ttl_ms: Option<u32>) -> Result<(), HostError> {
        Err(HostError::Trap(forged()))
    }

    fn delete(&mut self, _bucket: Bucket, _key: String) -> Result<(), HostError> {
        Err(HostError::Trap(forged()))
    }

    fn swap(
        &mut self,
        _bucket: Bucket,
        _key: String,
        _expected: Option<u64>,
        _value: Vec<u8>,
    ) -> Result<u64, HostError> {
        Err(HostError::Trap(forged()))
    }

    fn increment(&mut self, _bucket: Bucket, _key: String, _delta: i32) -> Result<i64, HostError> {
        Err(HostError::Trap(forged()))
    }

    fn keys(
        &mut self,
        _bucket: Bucket,
        _prefix: String,
        _cursor: Option<String>,
        _limit: u32,
    ) -> Result<kv::Page, HostError> {
        Err(HostError::Trap(forged()))
    }

    fn drop(&mut self, _bucket: Bucket) -> wasmtime::Result<()> {
        Err(forged())
    }
}
