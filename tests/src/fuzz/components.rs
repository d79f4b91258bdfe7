//! Components and what is embedded in them.

use std::sync::OnceLock;

use agenthost::plugin::{Digest, Import, PluginInfo, refuse};
use agenthost::registry::asks::Asks;
use agenthost::registry::statement;

use super::{host, plugins};

/// A component: whatever can be read can be described, and loads or is refused.
pub fn component(bytes: &[u8]) {
    let_the_decoder_panic();
    if let Ok(plugin) = PluginInfo::read(bytes) {
        describe(&plugin, bytes);
        let _ = host().load_bytes(bytes);
    }
}

/// The sections that a build embeds in a component: the first byte selects the section, and the rest is its content.
pub fn sections(bytes: &[u8]) {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    const NAMES: [&str; 6] = [
        "agenthost:manifest",
        "agenthost:manifest:demo:double",
        "agenthost:provenance",
        "agenthost:wit",
        "producers",
        "package-docs",
    ];
    let Some((which, data)) = bytes.split_first() else {
        return;
    };
    let name = NAMES[usize::from(*which) % NAMES.len()];
    let mut component = BASE.get_or_init(plugins::demo_double).clone();
    let mut section = Vec::new();
    leb(name.len(), &mut section);
    section.extend(name.as_bytes());
    section.extend(data);
    component.push(0);
    leb(section.len(), &mut component);
    component.extend(section);
    // `package-docs` is a part of the component's types for whoever reads them, and may make no sense.
    match PluginInfo::read(&component) {
        Ok(plugin) => describe(&plugin, &component),
        Err(error) => assert!(name == "package-docs", "{name}: {error}"),
    }
}

/// The description of a plugin that `inspect`, `vet` and `add` show.
fn describe(plugin: &PluginInfo, bytes: &[u8]) {
    assert_eq!(plugin.digest, Digest::of(bytes));
    assert_eq!(plugin.digest.to_string().parse::<Digest>().unwrap(), plugin.digest);
    let _ = (plugin.signature(), plugin.powers(), plugin.release(), plugin.sdk());
    for schema in [plugin.input_schema(), plugin.output_schema(), plugin.error_schema()] {
        let _ = schema.map(|schema| schema.to_string());
    }
    for import in &plugin.imports {
        let _ = (import.kind(), import.meaning(), Import::classify(import.name()));
    }
    let _ = refuse(&plugin.id.to_string(), &plugin.imports, false, None);
    let asks = Asks::of(plugin);
    assert!(asks.changes(&asks).is_empty(), "it asks for more than itself");
    let _ = (asks.limits(), statement::identity(plugin));
    if let Some(manifest) = &plugin.manifest {
        let _ = manifest.suggested();
    }
    if let Some(provenance) = &plugin.provenance {
        let _ = (provenance.tools(), provenance.revision());
    }
}

fn leb(mut number: usize, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Leaves panics of the decoder of types to the code that catches them. The hook of a fuzzer would end the process.
fn let_the_decoder_panic() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !agenthost::plugin::is_decoding() {
                usual(panic);
            }
        }));
    });
}
