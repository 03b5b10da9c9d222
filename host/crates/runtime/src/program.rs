//! A component made ready to run: inspected, compiled, linked, its handlers looked up.

use macula_wire::Mcid;
use wasmtime::{
    Engine,
    component::{Component, InstancePre, Linker},
};

use crate::{
    bindings::{call_handler, config_handler, lifecycle, message_handler, state_handler, timer_handler},
    cache::CodeCache,
    conformance,
    engine::HostEngine,
    host::InstanceState,
    inspect::{Ability, Inspection, Refusal, inspect},
};

/// Why a component cannot be made ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Told from the outside.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The code is invalid, or uses what this host does not have.
    #[error("this component cannot be compiled: {0}")]
    Compile(String),
    /// What it imports or exports has another type than the contract says.
    #[error("this component does not fit macula:plugin@0.1.0: {0}")]
    Link(String),
}

/// One version of a plugin, shared by its instances.
pub(crate) struct Program {
    inspection: Inspection,
    pub(crate) pre: InstancePre<InstanceState>,
    pub(crate) exports: ExportIndices,
}

/// Where the handlers are, for those that there are.
pub(crate) struct ExportIndices {
    pub(crate) lifecycle: Option<lifecycle::GuestIndices>,
    pub(crate) message: Option<message_handler::GuestIndices>,
    pub(crate) call: Option<call_handler::GuestIndices>,
    pub(crate) timer: Option<timer_handler::GuestIndices>,
    pub(crate) config: Option<config_handler::GuestIndices>,
    pub(crate) state: Option<state_handler::GuestIndices>,
}

impl Program {
    /// Makes `bytes` ready. Blocks: compiling a large component takes seconds.
    pub(crate) fn load(
        host: &HostEngine,
        linker: &Linker<InstanceState>,
        cache: Option<&CodeCache>,
        bytes: &[u8],
    ) -> Result<Self, ProgramError> {
        let inspection = inspect(bytes)?;
        let component = match cache {
            Some(cache) => cache.component(&host.engine, &host.compatibility, &inspection.mcid, bytes),
            None => compile(&host.engine, bytes),
        }?;
        let pre = linker.instantiate_pre(&component).map_err(|error| ProgramError::Link(one_line(&error)))?;
        let exports = ExportIndices::find(&pre, &inspection).map_err(|error| ProgramError::Link(one_line(&error)))?;
        Ok(Self { inspection, pre, exports })
    }

    /// Lets the system have the pages of native code back, which nobody runs now. They come back from their file when they
    /// are needed; without a file they stay, or go where the system puts what is swapped out.
    #[cfg(target_os = "linux")]
    pub(crate) fn page_out(&self) {
        use rustix::mm::{Advice, madvise};
        let image = self.pre.component().image_range();
        let page = rustix::param::page_size();
        let (begin, end) = ((image.start as usize).next_multiple_of(page), image.end as usize / page * page);
        if begin < end {
            // SAFETY: lies in the component's own mapping, which lives as long as `self`; this advice changes where pages are
            // kept, never what is in them.
            let advised = unsafe { madvise(begin as *mut _, end - begin, Advice::LinuxPageOut) };
            // Kernels before 5.4 do not know it: then they are taken back when memory is short, as ever.
            if let Err(error) = advised {
                tracing::debug!(%error, "native code stays in memory");
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn page_out(&self) {}

    pub(crate) fn mcid(&self) -> &Mcid {
        &self.inspection.mcid
    }

    pub(crate) fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    pub(crate) fn has(&self, ability: Ability) -> bool {
        self.inspection.abilities.contains(&ability)
    }
}

impl ExportIndices {
    fn find(pre: &InstancePre<InstanceState>, inspection: &Inspection) -> wasmtime::Result<Self> {
        // An interface that is exported must have the right functions; one that is not is simply absent.
        macro_rules! indices {
            ($ability:ident, $module:ident) => {
                match inspection.abilities.contains(&Ability::$ability) {
                    true => Some($module::GuestIndices::new(pre)?),
                    false => None,
                }
            };
        }
        Ok(Self {
            lifecycle: indices!(Lifecycle, lifecycle),
            message: indices!(MessageHandler, message_handler),
            call: indices!(CallHandler, call_handler),
            timer: indices!(TimerHandler, timer_handler),
            config: indices!(ConfigHandler, config_handler),
            state: indices!(StateHandler, state_handler),
        })
    }
}

/// Compiles a component that is whole and whose handlers fit: the rest is refused before that takes its time.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, ProgramError> {
    conformance::check(bytes)?;
    Component::new(engine, bytes).map_err(|error| ProgramError::Compile(one_line(&error)))
}

/// An error with its causes, in one line.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
