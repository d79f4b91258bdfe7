//! The plugins that are part of agenthost, as components.
