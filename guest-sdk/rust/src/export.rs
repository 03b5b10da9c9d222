//! The [`export!`](crate::export) macro, and what it rests on.

use crate::{
    CallHandler, ConfigHandler, Error, HandlerError, Lifecycle, Message, MessageHandler, Request, Result, StartReason,
    StateHandler, StopReason, Tick, TimerHandler,
};
use crate::{Disposition, Health};
use std::marker::PhantomData;
use std::time::Duration;

/// Makes a type the plugin: `export!(TYPE: HANDLER, …);`, once in a crate.
///
/// | handler | trait |
/// |---|---|
/// | `lifecycle` | [`Lifecycle`](crate::Lifecycle) |
/// | `message` | [`MessageHandler`](crate::MessageHandler) |
/// | `call` | [`CallHandler`](crate::CallHandler) |
/// | `timer` | [`TimerHandler`](crate::TimerHandler) |
/// | `config` | [`ConfigHandler`](crate::ConfigHandler) |
/// | `state` | [`StateHandler`](crate::StateHandler) |
///
/// The component exports what is listed and nothing else, so that a host sees what the plugin can do. A handler that is
/// listed but not implemented, or implemented but not listed, is a compile error. The type needs a [`Default`].
///
/// The manifest is the file `macula.toml` beside `Cargo.toml`; it becomes part of the component. Another text:
/// `export!(TYPE: HANDLER, …; manifest = include_str!("other.toml"));`.
///
/// ```
/// use macula_plugin::prelude::*;
///
/// #[derive(Default)]
/// struct Doubler;
///
/// impl MessageHandler for Doubler {
///     fn on_message(&mut self, message: Message) -> Result {
///         let number: f64 = message.json()?;
///         publish("numbers.doubled").json(&(number * 2.0)).send()?;
///         Ok(())
///     }
/// }
///
/// macula_plugin::export!(Doubler: message; manifest = r#"
///     name = "doubler"
///     publish = ["numbers.doubled"]
///     subscribe = ["numbers.in"]
///     [[subscriptions]]
///     pattern = "numbers.in"
/// "#);
///
/// let mut host = macula_plugin::testing::Host::<Doubler>::start();
/// host.deliver("numbers.in", "21");
/// assert_eq!(host.take_published()[0].text(), "42.0");
/// ```
///
/// Forgetting a handler does not compile:
///
/// ```compile_fail
/// # use macula_plugin::prelude::*;
/// # #[derive(Default)]
/// # struct Doubler;
/// # impl MessageHandler for Doubler {
/// #     fn on_message(&mut self, message: Message) -> Result { Ok(()) }
/// # }
/// impl TimerHandler for Doubler {
///     fn on_timer(&mut self, tick: Tick) -> Result { Ok(()) }
/// }
/// macula_plugin::export!(Doubler: message; manifest = "name = 'doubler'");
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ty : $($handler:ident),+ $(,)?) => {
        $crate::export!($plugin: $($handler),+; manifest =
            ::core::include_str!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/macula.toml")));
    };
    ($plugin:ty : $($handler:ident),+ $(,)? ; manifest = $manifest:expr) => {
        const _: () = {
            const MANIFEST: &str = $manifest;

            #[cfg(target_arch = "wasm32")]
            #[unsafe(link_section = "macula:manifest")]
            #[used]
            static MANIFEST_SECTION: [u8; MANIFEST.len()] = $crate::__private::section(MANIFEST);

            impl $crate::__private::Instance for $plugin {
                const MANIFEST: &'static str = MANIFEST;

                #[cfg(target_arch = "wasm32")]
                fn with<R>(run: impl ::core::ops::FnOnce(&mut Self) -> R) -> R {
                    ::std::thread_local! {
                        static INSTANCE: ::core::cell::RefCell<::core::option::Option<$plugin>> =
                            const { ::core::cell::RefCell::new(::core::option::Option::None) };
                    }
                    INSTANCE.with_borrow_mut(|instance| run(instance.get_or_insert_with($crate::__private::begin)))
                }

                #[cfg(not(target_arch = "wasm32"))]
                fn handlers() -> $crate::__private::Handlers<Self> {
                    let mut handlers = $crate::__private::Handlers::none();
                    $($crate::__export_handler!(native $handler handlers $plugin);)+
                    handlers
                }
            }

            #[cfg(target_arch = "wasm32")]
            type Glue = $crate::__private::Glue<$plugin>;
            $($crate::__export_handler!(component $handler Glue);)+

            #[allow(unused_imports, reason = "used for the handlers the plugin does not implement")]
            use $crate::__private::NotImplemented as _;
            $crate::__private::check_listed(
                &[$(::core::stringify!($handler)),+],
                [
                    $crate::__private::Probe::<$plugin>::LIFECYCLE,
                    $crate::__private::Probe::<$plugin>::MESSAGE,
                    $crate::__private::Probe::<$plugin>::CALL,
                    $crate::__private::Probe::<$plugin>::TIMER,
                    $crate::__private::Probe::<$plugin>::CONFIG,
                    $crate::__private::Probe::<$plugin>::STATE,
                ],
            );
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_handler {
    (native lifecycle $handlers:ident $plugin:ty) => { $handlers.lifecycle(); };
    (native message $handlers:ident $plugin:ty) => { $handlers.message(); };
    (native call $handlers:ident $plugin:ty) => { $handlers.call(); };
    (native timer $handlers:ident $plugin:ty) => { $handlers.timer(); };
    (native config $handlers:ident $plugin:ty) => { $handlers.config(); };
    (native state $handlers:ident $plugin:ty) => { $handlers.state(); };
    (component lifecycle $glue:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::wit::lifecycle::export_lifecycle!($glue with_types_in $crate::__private::wit::lifecycle);
    };
    (component message $glue:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::wit::message::export_message!($glue with_types_in $crate::__private::wit::message);
    };
    (component call $glue:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::wit::call::export_call!($glue with_types_in $crate::__private::wit::call);
    };
    (component timer $glue:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::wit::timer::export_timer!($glue with_types_in $crate::__private::wit::timer);
    };
    (component config $glue:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::wit::config::export_config!($glue with_types_in $crate::__private::wit::config);
    };
    (component state $glue:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::wit::state::export_state!($glue with_types_in $crate::__private::wit::state);
    };
    (component $other:ident $glue:ident) => {
        ::core::compile_error!(::core::concat!(
            "there is no handler `", ::core::stringify!($other),
            "`: lifecycle, message, call, timer, config, state"
        ));
    };
    (native $other:ident $handlers:ident $plugin:ty) => {};
}

/// What [`export!`](crate::export) makes of the plugin's type.
pub trait Instance: Default + 'static {
    /// The text of the manifest.
    const MANIFEST: &'static str;

    /// Runs something with this component's instance, which the first use makes.
    #[cfg(target_arch = "wasm32")]
    fn with<R>(run: impl FnOnce(&mut Self) -> R) -> R;

    /// The exported handlers.
    #[cfg(not(target_arch = "wasm32"))]
    fn handlers() -> crate::testing::Handlers<Self>;
}

/// Makes the instance, and sends panics to the log from now on.
#[cfg(target_arch = "wasm32")]
pub fn begin<P: Default>() -> P {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("panic");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        crate::log::write(crate::log::Level::Error, "panic", text, &[("location", &location)]);
    }));
    #[cfg(feature = "log")]
    crate::log::install_facade();
    P::default()
}

/// The manifest's text as the bytes of a section.
pub const fn section<const N: usize>(text: &str) -> [u8; N] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => panic!("the section is as long as the text"),
    }
}

/// Where the component's exports lead to.
#[cfg(target_arch = "wasm32")]
#[derive(Debug)]
pub struct Glue<P>(PhantomData<P>);

/// A handler's run, the same in a component and in a test.
pub(crate) mod run {
    use super::*;
    use crate::Failure;

    pub(crate) fn init<P: Lifecycle>(plugin: &mut P, reason: StartReason) -> Result<(), Error> {
        plugin.init(reason).map_err(Failure::into_error)
    }

    pub(crate) fn health<P: Lifecycle>(plugin: &mut P) -> Health {
        plugin.health()
    }

    pub(crate) fn shutdown<P: Lifecycle>(plugin: &mut P, reason: StopReason, grace: Duration) {
        plugin.shutdown(reason, grace);
    }

    pub(crate) fn message<P: MessageHandler>(plugin: &mut P, message: Message) -> Disposition {
        match plugin.on_message(message) {
            Ok(()) => Disposition::Ack,
            Err(failure) => failure.into_disposition(),
        }
    }

    pub(crate) fn call<P: CallHandler>(plugin: &mut P, request: Request) -> Result<Vec<u8>, HandlerError> {
        plugin.on_call(request).map_err(Failure::into_handler_error)
    }

    pub(crate) fn timer<P: TimerHandler>(plugin: &mut P, tick: Tick) -> Result<(), Error> {
        plugin.on_timer(tick).map_err(Failure::into_error)
    }

    pub(crate) fn config_changed<P: ConfigHandler>(plugin: &mut P, keys: &[String]) -> Result<(), Error> {
        plugin.on_config_changed(keys).map_err(Failure::into_error)
    }

    pub(crate) fn rights_changed<P: ConfigHandler>(plugin: &mut P) {
        plugin.on_rights_changed();
    }

    pub(crate) fn snapshot<P: StateHandler>(plugin: &mut P) -> Result<Vec<u8>, Error> {
        plugin.snapshot().map_err(Failure::into_error)
    }

    pub(crate) fn restore<P: StateHandler>(plugin: &mut P, state: Vec<u8>, version: &str) -> Result<(), Error> {
        plugin.restore(state, version).map_err(Failure::into_error)
    }
}

/// Tells at compile time which handlers a type implements: its constants are found before those of
/// [`NotImplemented`], where the type has the trait.
#[derive(Debug)]
pub struct Probe<P>(PhantomData<P>);

/// The answer where a type lacks the trait.
pub trait NotImplemented {
    /// No `Lifecycle`.
    const LIFECYCLE: bool = false;
    /// No `MessageHandler`.
    const MESSAGE: bool = false;
    /// No `CallHandler`.
    const CALL: bool = false;
    /// No `TimerHandler`.
    const TIMER: bool = false;
    /// No `ConfigHandler`.
    const CONFIG: bool = false;
    /// No `StateHandler`.
    const STATE: bool = false;
}

impl<P> NotImplemented for Probe<P> {}

impl<P: Lifecycle> Probe<P> {
    /// It has `Lifecycle`.
    pub const LIFECYCLE: bool = true;
}

impl<P: MessageHandler> Probe<P> {
    /// It has `MessageHandler`.
    pub const MESSAGE: bool = true;
}

impl<P: CallHandler> Probe<P> {
    /// It has `CallHandler`.
    pub const CALL: bool = true;
}

impl<P: TimerHandler> Probe<P> {
    /// It has `TimerHandler`.
    pub const TIMER: bool = true;
}

impl<P: ConfigHandler> Probe<P> {
    /// It has `ConfigHandler`.
    pub const CONFIG: bool = true;
}

impl<P: StateHandler> Probe<P> {
    /// It has `StateHandler`.
    pub const STATE: bool = true;
}

/// Fails to compile when a handler is implemented and not listed.
pub const fn check_listed(listed: &[&str], implemented: [bool; 6]) {
    let [lifecycle, message, call, timer, config, state] = implemented;
    assert!(!lifecycle || lists(listed, "lifecycle"), "`Lifecycle` is implemented: list `lifecycle` in `export!`");
    assert!(!message || lists(listed, "message"), "`MessageHandler` is implemented: list `message` in `export!`");
    assert!(!call || lists(listed, "call"), "`CallHandler` is implemented: list `call` in `export!`");
    assert!(!timer || lists(listed, "timer"), "`TimerHandler` is implemented: list `timer` in `export!`");
    assert!(!config || lists(listed, "config"), "`ConfigHandler` is implemented: list `config` in `export!`");
    assert!(!state || lists(listed, "state"), "`StateHandler` is implemented: list `state` in `export!`");
}

const fn lists(listed: &[&str], word: &str) -> bool {
    let mut rest = listed;
    while let [first, others @ ..] = rest {
        if same(first.as_bytes(), word.as_bytes()) {
            return true;
        }
        rest = others;
    }
    false
}

const fn same(mut a: &[u8], mut b: &[u8]) -> bool {
    while let ([first_a, rest_a @ ..], [first_b, rest_b @ ..]) = (a, b) {
        if *first_a != *first_b {
            return false;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.is_empty() && b.is_empty()
}
