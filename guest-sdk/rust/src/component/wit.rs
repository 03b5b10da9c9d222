//! The contract as generated from `wit/`.
//!
//! What a plugin imports is one world; what is not used is dropped when the component is made. Each handler is a world
//! of its own, because a component must export all that its world exports.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::cast_lossless,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    clippy::undocumented_unsafe_blocks,
    clippy::uninlined_format_args,
    unsafe_op_in_unsafe_fn,
    rust_2018_idioms,
    reason = "generated code"
)]

pub mod platform {
    wit_bindgen::generate!({
        path: "wit",
        world: "platform",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

macro_rules! handler_world {
    ($module:ident, $export:literal, $world:literal, $inline:literal, $with:literal: $to:path) => {
        pub mod $module {
            wit_bindgen::generate!({
                inline: $inline,
                path: "wit",
                world: $world,
                ownership: Borrowing { duplicate_if_necessary: true },
                pub_export_macro: true,
                export_macro_name: $export,
                with: { $with: $to },
            });
        }
    };
}

handler_world!(
    lifecycle, "export_lifecycle", "macula:sdk/lifecycle",
    "package macula:sdk; world lifecycle { export macula:plugin/lifecycle@0.1.0; }",
    "macula:plugin/types@0.1.0": super::platform::macula::plugin::types
);
handler_world!(
    message, "export_message", "macula:sdk/message",
    "package macula:sdk; world message { export macula:plugin/message-handler@0.1.0; }",
    "macula:plugin/types@0.1.0": super::platform::macula::plugin::types
);
handler_world!(
    call, "export_call", "macula:sdk/call",
    "package macula:sdk; world call { export macula:plugin/call-handler@0.1.0; }",
    "macula:plugin/types@0.1.0": super::platform::macula::plugin::types
);
handler_world!(
    timer, "export_timer", "macula:sdk/timer",
    "package macula:sdk; world timer { export macula:plugin/timer-handler@0.1.0; }",
    "macula:plugin/types@0.1.0": super::platform::macula::plugin::types
);
handler_world!(
    config, "export_config", "macula:sdk/config",
    "package macula:sdk; world config { export macula:plugin/config-handler@0.1.0; }",
    "macula:plugin/types@0.1.0": super::platform::macula::plugin::types
);
handler_world!(
    state, "export_state", "macula:sdk/state",
    "package macula:sdk; world state { export macula:plugin/state-handler@0.1.0; }",
    "macula:plugin/types@0.1.0": super::platform::macula::plugin::types
);
