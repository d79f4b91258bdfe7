//! The plugins that are part of agenthost, as components that are built from the crates beside this one.
//!
//! The components are files of the repository, so every build of one revision has the same digests, whatever compiler
//! it is built with.

/// The name of each plugin, as `namespace:name`, and its component.
pub const PLUGINS: [(&str, &[u8]); 5] = [
    ("agenthost:ask", include_bytes!("../components/ask.wasm")),
    ("agenthost:fan-out", include_bytes!("../components/fan-out.wasm")),
    ("agenthost:map", include_bytes!("../components/map.wasm")),
    ("agenthost:recover", include_bytes!("../components/recover.wasm")),
    ("agenthost:validate", include_bytes!("../components/validate.wasm")),
];
