//! `content`: not on this host yet. Every function says so; no handle ever comes into being.

use wasmtime::component::Resource;

use super::{HostError, InstanceState};
use crate::bindings::{content, types};

fn unavailable() -> HostError {
    HostError::Guest(types::Error::Unavailable("content is not available on this host yet".to_owned()))
}

/// A handle that no function has given out.
fn forged() -> wasmtime::Error {
    wasmtime::Error::msg("a content handle that was never given out")
}

impl content::Host for InstanceState {
    fn put(&mut self, _data: Vec<u8>) -> Result<String, HostError> {
        Err(unavailable())
    }

    fn create(&mut self) -> Result<Resource<content::Writer>, HostError> {
        Err(unavailable())
    }

    fn open(&mut self, _mcid: String) -> Result<Resource<content::Blob>, HostError> {
        Err(unavailable())
    }

    fn fetch_all(&mut self, _mcid: String) -> Result<Resource<content::Fetch>, HostError> {
        Err(unavailable())
    }

    fn has(&mut self, _mcid: String) -> Result<bool, HostError> {
        Err(unavailable())
    }

    fn pin(&mut self, _mcid: String) -> Result<(), HostError> {
        Err(unavailable())
    }

    fn unpin(&mut self, _mcid: String) -> Result<(), HostError> {
        Err(unavailable())
    }
}

impl content::HostBlob for InstanceState {
    fn size(&mut self, _blob: Resource<content::Blob>) -> wasmtime::Result<u64> {
        Err(forged())
    }

    fn read(&mut self, _blob: Resource<content::Blob>, _offset: u64, _len: u32) -> Result<Vec<u8>, HostError> {
        Err(HostError::Trap(forged()))
    }

    fn drop(&mut self, _blob: Resource<content::Blob>) -> wasmtime::Result<()> {
        Err(forged())
    }
}

impl content::HostWriter for InstanceState {
    fn write(&mut self, _writer: Resource<content::Writer>, _piece: Vec<u8>) -> Result<(), HostError> {
        Err(HostError::Trap(forged()))
    }

    fn finish(&mut self, _writer: Resource<content::Writer>) -> Result<String, HostError> {
        Err(HostError::Trap(forged()))
    }

    fn drop(&mut self, _writer: Resource<content::Writer>) -> wasmtime::Result<()> {
        Err(forged())
    }
}

impl content::HostFetch for InstanceState {
    fn state(&mut self, _fetch: Resource<content::Fetch>) -> wasmtime::Result<content::FetchState> {
        Err(forged())
    }

    fn cancel(&mut self, _fetch: Resource<content::Fetch>) -> wasmtime::Result<()> {
        Err(forged())
    }

    fn drop(&mut self, _fetch: Resource<content::Fetch>) -> wasmtime::Result<()> {
        Err(forged())
    }
}
