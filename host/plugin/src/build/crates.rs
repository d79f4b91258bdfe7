//! Finds the crate that brings in something that a plugin cannot use: sockets, files, threads.
//!
//! Cargo provides the graph; this module lists, for each need, the crates that plugins are likely to depend on. A crate
//! that is not listed is not found, and the error reports that instead of guessing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use serde_json::Value;

use super::cargo::run;
use super::compile_target::TARGET;
use super::tools::Tools;

/// A need of a crate that no plugin can satisfy, or not without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrateNeed {
    Network,
    Files,
    Threads,
    /// Functions of JavaScript.
    JavaScript,
}

/// Crates that have the need however they are used.
const NETWORK: &[&str] = &[
    "actix-web",
    "async-io",
    "async-net",
    "async-std",
    "attohttpc",
    "aws-config",
    "axum",
    "curl",
    "curl-sys",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "isahc",
    "lettre",
    "minreq",
    "mio",
    "mongodb",
    "mysql",
    "native-tls",
    "openssl-sys",
    "polling",
    "postgres",
    "quinn",
    "redis",
    "reqwest",
    "rumqttc",
    "smol",
    "socket2",
    "sqlx",
    "surf",
    "tiny_http",
    "tokio-postgres",
    "tokio-rustls",
    "tokio-tungstenite",
    "tonic",
    "tungstenite",
    "ureq",
    "waki",
    "warp",
    "wstd",
];
const FILES: &[&str] = &[
    "cap-std", "fs-err", "fs2", "fs_extra", "glob", "ignore", "memmap2", "notify", "rusqlite", "sled", "tempfile",
    "walkdir",
];
const JAVASCRIPT: &[&str] = &[
    "gloo-net",
    "js-sys",
    "reqwest",
    "wasm-bindgen",
    "wasm-bindgen-futures",
    "wasm-streams",
    "web-sys",
];
const THREADS: &[&str] = &["crossbeam-utils", "rayon-core", "scoped_threadpool", "threadpool"];

/// The features of a crate that add the need.
const FEATURES: &[(&str, &str, CrateNeed)] = &[
    ("tokio", "net", CrateNeed::Network),
    ("tokio", "fs", CrateNeed::Files),
    ("tokio", "rt-multi-thread", CrateNeed::Threads),
];

/// The crates of a build for [`TARGET`].
pub(super) struct Graph {
    root: String,
    nodes: BTreeMap<String, Node>,
}

struct Node {
    name: String,
    version: String,
    features: Vec<String>,
    /// The ids of dependencies that become part of the component, without build dependencies.
    deps: Vec<String>,
}

impl Graph {
    /// Reads the graph below the package with this id. `None` if cargo fails.
    pub(super) fn read(tools: &Tools, dir: &Path, root: &str) -> Option<Self> {
        let mut command = tools.cargo(dir, None);
        command.args(["metadata", "--format-version", "1", "--filter-platform", TARGET]);
        let output = run(&mut command).ok().filter(|output| output.status.success())?;
        Self::parse(&serde_json::from_slice(&output.stdout).ok()?, root)
    }

    fn parse(metadata: &Value, root: &str) -> Option<Self> {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut packages = BTreeMap::new();
        for package in metadata.get("packages")?.as_array()? {
            packages.insert(text(package, "id"), package);
        }
        let runs_while_building = |id: &str| {
            let targets = packages.get(id).and_then(|package| package.get("targets")?.as_array());
            let mut kinds = targets
                .into_iter()
                .flatten()
                .filter_map(|target| target.get("kind")?.as_array());
            kinds.any(|kinds| kinds.iter().any(|kind| kind == "proc-macro"))
        };
        let mut nodes = BTreeMap::new();
        for node in metadata.pointer("/resolve/nodes")?.as_array()? {
            let id = text(node, "id");
            let package = packages.get(&id)?;
            let features = node.get("features").and_then(Value::as_array).into_iter().flatten();
            let linked = |dep: &&Value| {
                let kinds = dep.get("dep_kinds").and_then(Value::as_array);
                kinds
                    .into_iter()
                    .flatten()
                    .any(|kind| kind.get("kind").is_some_and(Value::is_null))
            };
            let deps = node
                .get("deps")?
                .as_array()?
                .iter()
                .filter(linked)
                .map(|dep| text(dep, "pkg"));
            nodes.insert(
                id,
                Node {
                    name: text(package, "name"),
                    version: text(package, "version"),
                    features: features.filter_map(Value::as_str).map(str::to_owned).collect(),
                    deps: deps.filter(|id| !runs_while_building(id)).collect(),
                },
            );
        }
        Some(Self {
            root: root.to_owned(),
            nodes,
        })
    }

    /// Formats the crate with this id and the shortest path to it: `mio 1.0.2 (sample -> tokio -> mio)`.
    pub(super) fn way_to(&self, id: &str) -> Option<String> {
        let ways = self.ways(|_| false);
        ways.get(id).map(|way| self.told(way))
    }

    /// Like [`Graph::way_to`], for the crate named `name`.
    pub(super) fn way_to_name(&self, name: &str) -> Option<String> {
        let (id, _) = self.nodes.iter().find(|(_, node)| node.name == name)?;
        self.way_to(id)
    }

    /// Returns the outermost crates that have the need; the crates below them are implied.
    pub(super) fn with(&self, need: CrateNeed) -> Vec<String> {
        let found = |node: &Node| brings(node, need);
        let ways = self.ways(found);
        let mut ways: Vec<_> = ways
            .values()
            .filter(|way| way.last().and_then(|id| self.nodes.get(*id)).is_some_and(found))
            .collect();
        ways.sort_by_key(|way| way.len());
        ways.iter().map(|way| self.told(way)).collect()
    }

    /// Returns the shortest path from the root to each crate, stopping at crates for which `end` returns true.
    fn ways(&self, end: impl Fn(&Node) -> bool) -> BTreeMap<&str, Vec<&str>> {
        let mut ways = BTreeMap::new();
        let mut seen = BTreeSet::from([self.root.as_str()]);
        let mut pending = VecDeque::from([vec![self.root.as_str()]]);
        while let Some(way) = pending.pop_front() {
            let Some((id, node)) = way.last().and_then(|id| Some((*id, self.nodes.get(*id)?))) else {
                continue;
            };
            if id == self.root || !end(node) {
                for dep in &node.deps {
                    if seen.insert(dep) {
                        pending.push_back([way.as_slice(), &[dep.as_str()]].concat());
                    }
                }
            }
            ways.insert(id, way);
        }
        ways
    }

    fn told(&self, way: &[&str]) -> String {
        let nodes: Vec<_> = way.iter().filter_map(|id| self.nodes.get(*id)).collect();
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        let (name, version) = nodes.last().map_or(("", ""), |node| (&node.name, &node.version));
        format!("{name} {version} ({})", names.join(" -> "))
    }
}

fn brings(node: &Node, need: CrateNeed) -> bool {
    let list = match need {
        CrateNeed::Network => NETWORK,
        CrateNeed::Files => FILES,
        CrateNeed::Threads => THREADS,
        CrateNeed::JavaScript => JAVASCRIPT,
    };
    list.contains(&node.name.as_str())
        || FEATURES.iter().any(|(name, feature, brings)| {
            *brings == need && node.name == *name && node.features.iter().any(|known| known == feature)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A graph of these crates, each with its features and dependencies.
    fn graph(crates: &[(&str, &[&str], &[&str])]) -> Graph {
        let packages: Vec<_> = crates
            .iter()
            .map(|(name, ..)| {
                let kind = if name.ends_with("-macros") { "proc-macro" } else { "lib" };
                json!({"id": name, "name": name, "version": "1.2.3", "targets": [{"kind": [kind]}]})
            })
            .collect();
        let dep = |name: &&str| match name.strip_prefix("build:") {
            Some(name) => json!({"pkg": name, "dep_kinds": [{"kind": "build"}]}),
            None => json!({"pkg": name, "dep_kinds": [{"kind": null}, {"kind": "dev"}]}),
        };
        let nodes: Vec<_> = crates
            .iter()
            .map(|(name, features, deps)| {
                json!({"id": name, "features": features, "deps": deps.iter().map(dep).collect::<Vec<_>>()})
            })
            .collect();
        Graph::parse(&json!({"packages": packages, "resolve": {"nodes": nodes}}), "sample").unwrap()
    }

    #[test]
    fn the_outermost_crate_is_named_with_the_way_to_it() {
        let graph = graph(&[
            ("sample", &[], &["client", "reqwest", "sample-macros", "build:ureq"]),
            ("client", &[], &["socket2"]),
            ("reqwest", &[], &["hyper"]),
            ("hyper", &[], &["socket2"]),
            ("socket2", &[], &[]),
            ("sample-macros", &[], &["curl"]),
            ("curl", &[], &[]),
            ("ureq", &[], &[]),
        ]);
        assert_eq!(
            graph.with(CrateNeed::Network),
            [
                "reqwest 1.2.3 (sample -> reqwest)",
                "socket2 1.2.3 (sample -> client -> socket2)"
            ]
        );
        assert!(graph.with(CrateNeed::Threads).is_empty());
        assert_eq!(
            graph.way_to("hyper").unwrap(),
            "hyper 1.2.3 (sample -> reqwest -> hyper)"
        );
        assert_eq!(graph.way_to_name("curl"), None, "it runs while building");
    }

    #[test]
    fn a_crate_for_browsers_is_found() {
        let graph = graph(&[
            ("sample", &[], &["client", "clock"]),
            ("client", &[], &["reqwest"]),
            ("reqwest", &[], &["js-sys", "wasm-bindgen"]),
            ("clock", &[], &["js-sys"]),
            ("js-sys", &[], &["wasm-bindgen"]),
            ("wasm-bindgen", &[], &[]),
        ]);
        let found = graph.with(CrateNeed::JavaScript);
        assert_eq!(
            found,
            [
                "js-sys 1.2.3 (sample -> clock -> js-sys)",
                "reqwest 1.2.3 (sample -> client -> reqwest)"
            ]
        );
    }

    #[test]
    fn a_feature_makes_the_difference() {
        let with = |features: &[&str]| graph(&[("sample", &[], &["tokio"]), ("tokio", features, &[])]);
        assert!(with(&["rt", "sync"]).with(CrateNeed::Network).is_empty());
        assert_eq!(
            with(&["net"]).with(CrateNeed::Network),
            ["tokio 1.2.3 (sample -> tokio)"]
        );
        assert_eq!(with(&["rt-multi-thread"]).with(CrateNeed::Threads).len(), 1);
    }
}
