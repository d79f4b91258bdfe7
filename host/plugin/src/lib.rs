//! Describes a plugin without running it: identity, digest, typed interface, imports, manifest.
//!
//! Everything is read from the bytes of the component. The component's types are authoritative. The WIT text and the
//! manifest that a build embeds add docs and the author's information; embedded docs are used only if they agree with
//! the types.

#![cfg_attr(not(feature = "build"), allow(dead_code, reason = "building alone needs it"))]

#[doc(hidden)]
pub mod bounds;
#[cfg(feature = "build")]
pub mod build;
mod bytes;
mod contract;
mod custom_sections;
mod decode;
#[cfg(feature = "build")]
mod deps;
mod digest;
mod embedded;
mod error;
mod imports;
pub mod manifest;
pub mod provenance;
pub mod types;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;
use wit_parser::{Function, Resolve, Type, TypeDefKind, WorldItem, WorldKey};

use self::types::ValueError;
use agenthost_core::limits::{KeepBack, LimitsPatch};
use agenthost_core::llm::ServerToolGrants;

pub use self::bytes::{MAX_PLUGIN_BYTES, read};
#[doc(hidden)]
pub use self::decode::is_decoding;
pub use self::digest::Digest;
pub use self::error::{ComponentError, CoreEnvironment, InvalidDigest, PluginFileError};
pub use self::imports::{Import, ImportsRefused, refuse};
pub use self::manifest::Manifest;
pub use self::provenance::Provenance;

/// `namespace:name@version`: the WIT package of a plugin's task, with its interface version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PluginId {
    /// `namespace:name`.
    pub name: String,
    /// The version of the interface, if the package has one.
    pub version: Option<String>,
}

impl PluginId {
    fn of(package: &wit_parser::Package) -> Self {
        Self {
            name: format!("{}:{}", package.name.namespace, package.name.name),
            version: package.name.version.as_ref().map(ToString::to_string),
        }
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The typed interface of a plugin's task.
pub struct Interface {
    /// The types.
    #[doc(hidden)]
    pub resolve: Resolve,
    /// The function `run`.
    #[doc(hidden)]
    pub run: Function,
    /// `true` if the types carry the author's docs.
    pub documented: bool,
}

/// The task of another plugin, with the interface that the importing plugin was built for.
pub struct SubAgentImport {
    /// The import, such as `demo:competitor/task@0.1.0`.
    pub import: String,
    /// The plugin that provides the task.
    pub plugin: PluginId,
    /// The function `run` as the importer was built with it.
    #[doc(hidden)]
    pub run: Function,
}

/// The description of a plugin, as read from its bytes.
pub struct Plugin {
    /// The identity of the plugin.
    pub id: PluginId,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The size of its bytes.
    pub size: u64,
    /// The name of the exported interface, such as `demo:competitor/task@0.1.0`.
    pub task: String,
    /// The imports, in the component's order.
    pub imports: Vec<Import>,
    /// The input and output types.
    pub interface: Interface,
    /// The tasks of other plugins that it imports.
    pub sub_agents: Vec<SubAgentImport>,
    /// The component's own types, without docs, which `run` and [`SubAgentImport::run`] belong to.
    #[doc(hidden)]
    pub resolve: Resolve,
    /// The function `run`, in those types.
    #[doc(hidden)]
    pub run: Function,
    /// The author's description, if a build embedded one.
    pub manifest: Option<Manifest>,
    /// The builder's record of the plugin's origin, if a build embedded one.
    pub provenance: Option<Provenance>,
    /// The compilers, tools and libraries that were used to build the plugin, each with its version, as they report
    /// themselves.
    pub made_with: BTreeMap<String, String>,
    /// An upper estimate of the bytes that the engine holds for one instance, without its memories and tables.
    pub instance_bytes: u64,
    /// The reasons why embedded docs, the manifest or a part of it, or the provenance were ignored, for `inspect`.
    pub doubts: Vec<String>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.digest)
    }
}

impl Plugin {
    /// Reads the description of a component. Nothing is compiled or run.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::Plugin;
    ///
    /// # let component = ask();
    /// let plugin = Plugin::read(&component)?;
    /// assert_eq!(plugin.id.to_string(), "demo:ask@0.1.0");
    /// assert_eq!(plugin.powers(), "calls models; nothing else");
    /// assert_eq!(plugin.signature().trim(), "run: async func(input: string) -> result<string, string>;");
    /// assert_eq!(plugin.input_schema()?["type"], "string");
    ///
    /// let error = Plugin::read(b"(component)").err().ok_or("it was read")?;
    /// assert_eq!(error.to_string(), "the file is WebAssembly text, not a binary component");
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(bytes: &[u8]) -> Result<Self, ComponentError> {
        let instance_bytes = bytes::check(bytes)?;
        let (resolve, world) = match decode::decode(bytes)? {
            wit_component::DecodedWasm::Component(resolve, world) => (resolve, world),
            wit_component::DecodedWasm::WitPackage(..) => {
                return Err(ComponentError::WitPackage);
            }
        };
        let world = resolve
            .worlds
            .get(world)
            .ok_or_else(|| ComponentError::broken("it has no world"))?;
        let (imports, sub_agents) = imports(&resolve, world)?;
        let (id, task, run) = Self::task(&resolve, world)?;
        check_types(&task, &resolve, &run)?;
        let embedded = embedded::read(bytes);
        let documented = embedded.docs(&task, &resolve, &run);
        let mut doubts = embedded.doubts;
        doubts.extend(embedded.manifest.iter().flat_map(Manifest::faults));
        let (types, own_run) = (resolve.clone(), run.clone());
        let interface = match documented {
            Ok(Some((resolve, run))) => Interface {
                resolve,
                run,
                documented: true,
            },
            Ok(None) => Interface {
                resolve,
                run,
                documented: false,
            },
            Err(doubt) => {
                doubts.push(doubt);
                Interface {
                    resolve,
                    run,
                    documented: false,
                }
            }
        };
        Ok(Self {
            id,
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            task,
            imports,
            interface,
            sub_agents,
            resolve: types,
            run: own_run,
            manifest: embedded.manifest,
            provenance: embedded.provenance,
            made_with: embedded.made_with,
            instance_bytes,
            doubts,
        })
    }

    /// Reads the description of the component in a file.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::{Digest, Plugin};
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let file = dir.path().join("double.wasm");
    /// std::fs::write(&file, &component)?;
    /// let plugin = Plugin::open(&file)?;
    /// assert_eq!(plugin.digest, Digest::of(&component));
    /// assert_eq!(plugin.release(), Some("0.1.0"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of class [`ErrorClass::Plugin`](agenthost_core::error::ErrorClass::Plugin) if the file cannot
    /// be read, is larger than [`MAX_PLUGIN_BYTES`], or is not a plugin.
    pub fn open(path: &Path) -> Result<Self, PluginFileError> {
        Self::read(&bytes::read(path)?).map_err(|source| PluginFileError::Invalid {
            path: path.to_owned(),
            source,
        })
    }

    /// Formats the function `run` and every type that it uses as WIT text, with docs if there are any.
    pub fn signature(&self) -> String {
        types::signature::signature(&self.interface.resolve, &self.interface.run)
    }

    /// Returns the JSON Schema of the input.
    pub fn input_schema(&self) -> Result<Value, ValueError> {
        let input = self.interface.run.params.first().map(|param| param.ty);
        self.schema(input, "input")
    }

    /// Returns the JSON Schema of the output, or of its `ok` side if `run` returns a `result`.
    pub fn output_schema(&self) -> Result<Value, ValueError> {
        self.schema(self.returns().0, "output")
    }

    /// Returns the JSON Schema of the plugin's error type; `null` if it has none.
    pub fn error_schema(&self) -> Result<Value, ValueError> {
        self.schema(self.returns().1, "error")
    }

    fn schema(&self, ty: Option<Type>, side: &str) -> Result<Value, ValueError> {
        match ty {
            Some(ty) => types::schema::schema(&self.interface.resolve, &ty, side),
            None => Ok(Value::Null),
        }
    }

    /// Returns the types of the output and of the error.
    fn returns(&self) -> (Option<Type>, Option<Type>) {
        let mut ty = self.interface.run.result;
        while let Some(Type::Id(id)) = ty {
            match self.interface.resolve.types.get(id).map(|def| &def.kind) {
                Some(TypeDefKind::Type(target)) => ty = Some(*target),
                Some(TypeDefKind::Result(result)) => return (result.ok, result.err),
                _ => break,
            }
        }
        (ty, None)
    }

    /// Finds the only exported interface named `task`.
    fn task(resolve: &Resolve, world: &wit_parser::World) -> Result<(PluginId, String, Function), ComponentError> {
        let mut exports = Vec::new();
        for (key, item) in &world.exports {
            let (WorldKey::Interface(id), WorldItem::Interface { .. }) = (key, item) else {
                continue;
            };
            let Some(interface) = resolve.interfaces.get(*id) else {
                continue;
            };
            if interface.name.as_deref() == Some("task") {
                exports.push((resolve.name_world_key(key), interface));
            }
        }
        let (task, interface) = match exports.as_slice() {
            [one] => one,
            [] => {
                let exports = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
                return Err(ComponentError::NoTask { exports });
            }
            several => {
                let tasks = several.iter().map(|(name, _)| name.clone()).collect();
                return Err(ComponentError::SeveralTasks { tasks });
            }
        };
        let package = interface
            .package
            .and_then(|package| resolve.packages.get(package))
            .ok_or(ComponentError::NoPackage)?;
        let run = interface
            .functions
            .get("run")
            .ok_or_else(|| ComponentError::NoRun { task: task.clone() })?;
        let id = PluginId::of(package);
        Ok((id, task.clone(), run.clone()))
    }

    /// The release version in the manifest, or the interface version if the manifest has none.
    pub fn release(&self) -> Option<&str> {
        let manifest = self.manifest.as_ref().and_then(|manifest| manifest.version.as_deref());
        manifest.or(self.id.version.as_deref())
    }

    /// Returns the limits that the author suggests: none without a manifest, or if one of them is invalid.
    pub fn suggested_limits(&self) -> LimitsPatch {
        let suggested = self.manifest.as_ref().map(Manifest::suggested);
        suggested.and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the tools of providers that the author asks for: none without a manifest.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::{Manifest, Plugin};
    /// use serde_json::json;
    ///
    /// let mut plugin = Plugin::read(&ask())?;
    /// assert!(plugin.server_tools()?.is_empty());
    /// plugin.manifest = Some(Manifest { server_tools: json!(["web-search"]), ..Manifest::default() });
    /// assert_eq!(plugin.server_tools()?.to_string(), "web-search (5 uses a call)");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason if one of them is invalid. Such a plugin may use no tool.
    pub fn server_tools(&self) -> Result<ServerToolGrants, String> {
        let asked = self.manifest.as_ref().map(Manifest::server_tools);
        asked.unwrap_or_else(|| Ok(ServerToolGrants::default()))
    }

    /// Returns the part of its limits that the plugin keeps back from its sub-tasks. If its manifest declares none, a
    /// plugin that calls models itself keeps back [`KeepBack::DEFAULT_SHARE`], and any other nothing.
    pub fn keep_back(&self) -> KeepBack {
        let declared = self.manifest.as_ref().map(Manifest::keep_back);
        declared.and_then(Result::ok).flatten().unwrap_or_else(|| {
            match !self.sub_agents.is_empty() && self.imports.iter().any(Import::is_llm) {
                true => KeepBack::of_share(KeepBack::DEFAULT_SHARE),
                false => KeepBack::default(),
            }
        })
    }

    /// The version of agenthost-sdk that the plugin was built with, if `agenthost build` recorded it.
    pub fn sdk(&self) -> Option<&str> {
        self.made_with.get("agenthost-sdk").map(String::as_str)
    }

    /// Returns whether the plugin imports the file system, and therefore runs only with a granted directory.
    pub fn reads_files(&self) -> bool {
        self.imports.iter().any(|import| matches!(import, Import::Files(_)))
    }

    /// Returns whether the plugin imports the functions for documents that it keeps between runs.
    pub fn has_memory(&self) -> bool {
        self.imports.iter().any(Import::is_memory)
    }

    /// Describes the plugin's powers, in one sentence for people: `calls models; starts demo:competitor; nothing else`.
    pub fn powers(&self) -> String {
        let mut powers = Vec::new();
        if self.imports.iter().any(Import::is_llm) {
            powers.push("calls models".to_owned());
        }
        if self.reads_files() {
            powers.push("uses files in directories that it is granted".to_owned());
        }
        if self.has_memory() {
            powers.push("keeps documents in a directory that it is granted".to_owned());
        }
        let tools = self.server_tools().unwrap_or_default();
        let tools: Vec<_> = tools.0.keys().map(|kind| kind.name()).collect();
        if !tools.is_empty() {
            powers.push(format!("uses {} of a provider if that is granted", tools.join(" and ")));
        }
        for sub_agent in &self.sub_agents {
            powers.push(format!("starts {}", sub_agent.plugin.name));
        }
        if powers.is_empty() {
            powers.push("computes".to_owned());
        }
        let refused = self
            .imports
            .iter()
            .filter(|import| matches!(import, Import::Refused(_)));
        match refused.count() {
            0 => powers.push("nothing else".into()),
            1 => powers.push("is refused, for 1 import that is not offered".into()),
            n => powers.push(format!("is refused, for {n} imports that are not offered")),
        }
        powers.join("; ")
    }
}

/// Returns the imports of a world, and among them the tasks of other plugins. An interface `task` of which only types
/// are used starts nothing and is classified separately.
fn imports(resolve: &Resolve, world: &wit_parser::World) -> Result<(Vec<Import>, Vec<SubAgentImport>), ComponentError> {
    let (mut imports, mut sub_agents) = (Vec::new(), Vec::new());
    for key in world.imports.keys() {
        let import = resolve.name_world_key(key);
        let class = Import::classify(&import);
        if let (WorldKey::Interface(id), Import::Contract(_)) = (key, &class) {
            let unknown = contract::unknown_functions(resolve, *id, &import);
            imports.push(class);
            imports.extend(unknown.into_iter().map(Import::Refused));
            continue;
        }
        let (WorldKey::Interface(id), Import::SubAgent(_)) = (key, &class) else {
            imports.push(class);
            continue;
        };
        let interface = resolve.interfaces.get(*id);
        if interface.is_none_or(|interface| interface.functions.is_empty()) {
            imports.push(Import::Types(import));
            continue;
        }
        let run = interface.and_then(|interface| interface.functions.get("run"));
        let package = interface.and_then(|interface| resolve.packages.get(interface.package?));
        let (Some(run), Some(package)) = (run, package) else {
            return Err(ComponentError::SubAgentWithoutRun { import });
        };
        imports.push(class);
        sub_agents.push(SubAgentImport {
            import,
            plugin: PluginId::of(package),
            run: run.clone(),
        });
    }
    Ok((imports, sub_agents))
}

/// Checks that `run` has one parameter, and that its types are plain values: handles to a running component have no
/// form outside it.
fn check_types(task: &str, resolve: &Resolve, run: &Function) -> Result<(), ComponentError> {
    let [input] = run.params.as_slice() else {
        return Err(ComponentError::Parameters {
            task: task.to_owned(),
            count: run.params.len(),
        });
    };
    let sides = [(Some(&input.ty), "input"), (run.result.as_ref(), "output")];
    for (ty, side) in sides.into_iter().filter_map(|(ty, side)| Some((ty?, side))) {
        types::schema::schema(resolve, ty, side).map_err(|source| ComponentError::UnsupportedType {
            task: task.to_owned(),
            source,
        })?;
    }
    Ok(())
}
