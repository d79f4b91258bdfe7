//! The plugins that are part of the command: their committed components belong to the sources beside them.

use std::collections::BTreeMap;
use std::path::Path;

use agenthost::plugin::build;
use agenthost::plugin::{Digest, PluginInfo};
use agenthost_tests::guests::workspace;

/// Returns the digest of a plugin's sources, which does not depend on a compiler.
fn sources(name: &str) -> String {
    fn add(dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => add(&path, found),
                false => {
                    let name = path.strip_prefix(workspace()).unwrap().display().to_string();
                    found.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    let dir = workspace().join("plugins/std").join(name);
    for part in ["src", "wit"] {
        add(&dir.join(part), &mut found);
    }
    for file in [dir.join("Cargo.toml"), workspace().join("wit/plugin.wit")] {
        found.insert(
            file.display()
                .to_string()
                .replace(&workspace().display().to_string(), ""),
            std::fs::read(&file).unwrap(),
        );
    }
    let mut all = Vec::new();
    for (name, text) in found {
        all.extend_from_slice(format!("{name} {}\n", text.len()).as_bytes());
        all.extend(text);
    }
    Digest::of(&all).hex()
}

#[test]
fn the_components_belong_to_their_sources() {
    let folder = workspace().join("plugins/std/components");
    let list = folder.join("sources.txt");
    let bless = std::env::var_os("AGENTHOST_BLESS").is_some();
    let mut expected = String::new();
    for (plugin, committed) in agenthost_std::PLUGINS {
        let (_, name) = plugin.split_once(':').unwrap();
        expected.push_str(&format!("{} {name}\n", sources(name)));
        let built = build::build(&workspace().join("plugins/std").join(name)).unwrap();
        let built = std::fs::read(&built.path).unwrap();
        let file = folder.join(format!("{name}.wasm"));
        if bless {
            std::fs::write(&file, &built).unwrap();
            continue;
        }
        let (built, committed) = (PluginInfo::read(&built).unwrap(), PluginInfo::read(committed).unwrap());
        assert_eq!(built.signature(), committed.signature(), "{name}");
        assert_eq!(built.manifest, committed.manifest, "{name}");
        assert_eq!(built.powers(), committed.powers(), "{name}");
        assert_eq!(committed.id.name, plugin);
    }
    if bless {
        std::fs::write(&list, expected).unwrap();
        return;
    }
    assert_eq!(
        std::fs::read_to_string(&list).unwrap(),
        expected,
        "the sources changed: AGENTHOST_BLESS=1 cargo test --workspace --test all std_plugins writes the components again"
    );
}
