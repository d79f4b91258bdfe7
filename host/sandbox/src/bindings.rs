//! The generated host bindings of `wit/`. Nothing else in the crate calls `bindgen!`.

#![allow(clippy::all, clippy::indexing_slicing, clippy::unwrap_used, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin-with-memory",
    imports: {
        "agenthost:plugin/llm.complete": async | store | trappable,
        "agenthost:plugin/llm.remaining": store | trappable,
        "agenthost:plugin/shares.spend-from": trappable,
        "agenthost:plugin/memory.get": async | trappable,
        "agenthost:plugin/memory.put": async | trappable,
        "agenthost:plugin/memory.remove": async | trappable,
        "agenthost:plugin/memory.list": async | trappable,
        "agenthost:plugin/progress.report": trappable,
    },
});
