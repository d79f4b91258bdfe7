//! Loading a plugin with all the sub-agents below it.
//!
//! A plugin's import of another plugin's task names what it can start; this module resolves the name to bytes. The
//! places, in order of precedence: the caller's (`--with`), `[sub-agents]` in the configuration, a path in the plugin's
//! own manifest, a file `NAME.wasm` beside a plugin that is a file itself, a reference in the manifest, and the
//! project's lock file. Before anything runs, the types are compared, and plugins that start each other in a circle are
//! refused.
//!
//! Each plugin gets the directories of its own grant, if it is at the place that the grant is meant for. Only the root
//! gets the caller's directories.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::ceiling::Ceiling;
use super::tool_permission::ToolGrant;
use super::{Host, LoadOptions, LoadedPlugin, Plugin, PluginSource, SubAgent};
use crate::error::LoadError;
use agenthost_config::{DirGrant, trust};
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::Limits;
use agenthost_core::llm::ServerToolGrants;
#[cfg(feature = "build")]
use agenthost_plugin::build::BuildRules;
use agenthost_plugin::manifest::SubAgentPlace;
use agenthost_plugin::types::shape;
use agenthost_plugin::{Plugin as PluginInfo, PluginId, SubAgentImport};
#[cfg(feature = "registry")]
use agenthost_registry::policy::PolicyDecision;
#[cfg(feature = "registry")]
use agenthost_registry::{Name, Reference, ReferenceError, Requirement};
use agenthost_sandbox::Stop;

impl Host {
    /// Loads a plugin and the sub-agents that it can start, from a `.wasm` file or from a crate directory, which is
    /// built first.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost::{ErrorClass, Host};
    ///
    /// # std::fs::write(dir.join("double.wasm"), double())?;
    /// let host = Host::builder().build()?;
    /// let plugin = host.load(&dir.join("double.wasm")).await?;
    /// assert_eq!(plugin.id().to_string(), "demo:double@0.1.0");
    ///
    /// let error = host.load(&dir.join("no-such.wasm")).await.err().ok_or("it was loaded")?;
    /// assert_eq!(error.class(), ErrorClass::Plugin);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::load_with`].
    pub async fn load(&self, place: impl Into<PluginSource>) -> Result<Plugin> {
        self.load_with(place, LoadOptions::default()).await
    }

    /// Loads a plugin with options in addition to the configuration.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost::config::{DirGrant, Env};
    /// use agenthost::{Host, LoadOptions};
    ///
    /// # std::fs::write(dir.join("double.wasm"), double())?;
    /// let host = Host::builder().build()?;
    /// let options = LoadOptions::new().dir(DirGrant::parse(&Env::from_process()?, "reports::/data")?);
    /// let plugin = host.load_with(&dir.join("double.wasm"), options).await?;
    /// assert!(!plugin.info().reads_files(), "it imports no file system, so it does not see the directory");
    ///
    /// // A place for a sub-agent that the plugin does not start is an error.
    /// let options = LoadOptions::new().sub_agent("demo:competitor", dir.join("competitor"));
    /// assert!(host.load_with(&dir.join("double.wasm"), options).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Plugin`](agenthost_core::error::ErrorClass::Plugin) if a plugin cannot be found, built or loaded,
    /// if a sub-agent is not declared or not of the type that its importer expects, and if plugins start each other in
    /// a circle; [`ErrorClass::Denied`](agenthost_core::error::ErrorClass::Denied) for imports that the host does not
    /// offer.
    pub async fn load_with(&self, place: impl Into<PluginSource>, options: LoadOptions) -> Result<Plugin> {
        let host = self.clone();
        let place = place.into();
        // Dropping this future drops `_abandon`, which ends a compiler process.
        let (_abandon, stop) = agenthost_sandbox::stop();
        // Reading, building and compiling block, in the worst case for seconds.
        let loaded =
            tokio::task::spawn_blocking(move || Loader::new(&host, options).stopped_by(stop).load_root(&place));
        let loaded = loaded
            .await
            .map_err(|_| Error::host("the host failed while it loaded the plugin"))?;
        loaded.map(LoadedPlugin::shared)
    }

    /// Loads a plugin from its bytes, with the sub-agents that the configuration names. Compiling blocks the thread.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::Host;
    ///
    /// # let component = double();
    /// let host = Host::builder().build()?;
    /// let plugin = host.load_bytes(&component)?;
    /// assert_eq!(plugin.info().signature().trim(), "run: func(input: u32) -> u32;");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::load_with`].
    pub fn load_bytes(&self, bytes: &[u8]) -> Result<Plugin> {
        let mut loader = Loader::new(self, LoadOptions::default());
        loader.load_bytes(bytes, Origin::default()).map(LoadedPlugin::shared)
    }
}

/// The origin of a plugin's bytes.
#[derive(Clone, Copy, Default)]
struct Origin<'a> {
    /// The crate directory, if there is one: the manifest's paths are relative to it.
    home: Option<&'a Path>,
    /// The component's file.
    file: Option<&'a Path>,
    /// The lock file that names it.
    #[cfg(feature = "registry")]
    lock: Option<&'a Path>,
    /// The cause of imports that the host does not offer, if a build found it.
    blame: Option<&'a str>,
    /// The verdict of the project's policies, if they have been checked already.
    #[cfg(feature = "registry")]
    verdict: Option<&'a PolicyDecision>,
}

impl<'a> Origin<'a> {
    /// Returns the place that decides whether the grant to the plugin's name is meant for it: any file can use the name,
    /// and any project can lock it. An embedder provides its own bytes.
    fn place(self) -> Option<&'a Path> {
        let place = self.home.or(self.file);
        #[cfg(feature = "registry")]
        let place = place.or(self.lock);
        place
    }
}

/// The source of a plugin's place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    /// The caller, the operator's own configuration, or the manifest of a crate that was built.
    Caller,
    /// A project's configuration.
    Project,
}

struct Loader<'a> {
    host: &'a Host,
    with: BTreeMap<String, PluginSource>,
    /// Additional directories for the root.
    dirs: Vec<DirGrant>,
    /// Tools of providers for the root.
    server_tools: ServerToolGrants,
    /// Plugins that are loaded already, by file or crate directory.
    loaded: HashMap<PathBuf, Plugin>,
    /// The names in `with` that some plugin has used.
    given: BTreeSet<String>,
    /// The plugins above the one that is being loaded.
    above: Vec<PluginId>,
    /// Stops compiling early.
    stop: Option<Stop>,
}

impl<'a> Loader<'a> {
    fn new(host: &'a Host, options: LoadOptions) -> Self {
        Self {
            host,
            with: options.with,
            dirs: options.dirs,
            server_tools: options.server_tools,
            loaded: HashMap::new(),
            given: BTreeSet::new(),
            above: Vec::new(),
            stop: None,
        }
    }

    /// Stops compiling early when the other end of `stop` is dropped.
    fn stopped_by(mut self, stop: Stop) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Loads the root plugin. Returns an error if a place in `with` was never used.
    fn load_root(mut self, place: &PluginSource) -> Result<LoadedPlugin> {
        let root = self.load(place, NamedBy::Caller)?;
        let Some(unused) = self.with.keys().find(|name| !self.given.contains(*name)) else {
            return Ok(root);
        };
        let known = root.info.sub_agents.iter().map(|import| import.plugin.name.clone());
        Err(LoadError::UnusedSubAgent {
            name: unused.clone(),
            root: root.info.id.to_string(),
            starts: known.collect(),
        }
        .into())
    }

    fn load(&mut self, place: &PluginSource, by: NamedBy) -> Result<LoadedPlugin> {
        match place {
            PluginSource::Path(path) => self.load_path(path, by),
            #[cfg(feature = "registry")]
            PluginSource::Reference(reference) => match self.built_in(reference) {
                Some((bytes, requirement)) => self.load_built_in(bytes, requirement),
                None => self.load_locked(reference),
            },
        }
    }

    /// Returns the plugin of the program that a reference names, with the requirement on its version, unless the lock
    /// file has a plugin of that name.
    #[cfg(feature = "registry")]
    fn built_in<'r>(&self, reference: &'r Reference) -> Option<(&'static [u8], &'r Requirement)> {
        let Reference::Named { name, requirement } = reference else {
            return None;
        };
        let bytes = self.host.inner.built_in.get(&name.to_string())?;
        self.locked(&name.to_string())
            .is_none()
            .then_some((*bytes, requirement))
    }

    #[cfg(feature = "registry")]
    fn load_built_in(&mut self, bytes: &[u8], requirement: &Requirement) -> Result<LoadedPlugin> {
        let plugin = PluginInfo::read(bytes)?;
        let version = plugin.release().and_then(|release| release.parse().ok());
        if !requirement.is_any() && !version.is_some_and(|version| requirement.matches(&version)) {
            return Err(LoadError::OtherBuiltIn {
                plugin: plugin.id.name.clone(),
                has: plugin.release().unwrap_or("none").to_owned(),
                wanted: requirement.to_string(),
            }
            .into());
        }
        let verdict = match &self.host.inner.project {
            Some(project) => Some(project.judge_built_in(&plugin, bytes)?),
            None => None,
        };
        let origin = Origin {
            verdict: verdict.as_ref(),
            ..Origin::default()
        };
        self.load_bytes(bytes, origin)
    }

    /// Loads a plugin of the lock file from the cache. Nothing is fetched here.
    #[cfg(feature = "registry")]
    fn load_locked(&mut self, reference: &Reference) -> Result<LoadedPlugin> {
        let Some(project) = self.host.inner.project.clone() else {
            return Err(LoadError::NoProject {
                reference: reference.to_string(),
            }
            .into());
        };
        let admitted = project.admit(project.locked(reference)?)?;
        let origin = Origin {
            lock: Some(project.lock().path()),
            verdict: Some(&admitted.verdict),
            ..Origin::default()
        };
        self.load_bytes(&admitted.bytes, origin)
            .map_err(|error| error.context(&reference.to_string()))
    }

    /// Builds the crate in `path`: the component's file, notes, and what brought imports in.
    #[cfg(feature = "build")]
    fn build(&self, path: &Path, by: NamedBy) -> Result<(PathBuf, Vec<String>, Option<String>)> {
        #[cfg(feature = "registry")]
        if let Some(project) = &self.host.inner.project {
            project.judge_crate(path)?;
        }
        let built = self.builds(by).build(path)?;
        Ok((built.path, built.notes, built.blame))
    }

    #[cfg(not(feature = "build"))]
    #[expect(clippy::unused_self, reason = "with the feature `build` it is used")]
    fn build(&self, path: &Path, _: NamedBy) -> Result<(PathBuf, Vec<String>, Option<String>)> {
        Err(LoadError::CannotBuild { path: path.to_owned() }.into())
    }

    /// The rules for building a crate, depending on who named it.
    #[cfg(feature = "build")]
    fn builds(&self, by: NamedBy) -> BuildRules {
        match (&self.host.inner.builds, by) {
            (Some(rules), _) => rules.clone(),
            (None, NamedBy::Caller) => BuildRules::any(),
            (None, NamedBy::Project) => {
                let env = self.host.config().env().clone();
                BuildRules::permitting(move |dir| Ok(trust::crates::check(&env, dir)?))
            }
        }
    }

    fn load_path(&mut self, path: &Path, by: NamedBy) -> Result<LoadedPlugin> {
        let (file, home, notes, blame) = if path.is_dir() {
            let built = self.build(path, by)?;
            (built.0, Some(path), built.1, built.2)
        } else {
            (path.to_owned(), None, Vec::new(), None)
        };
        let bytes = agenthost_plugin::read(&file)?;
        let mut loaded = self
            .load_bytes(
                &bytes,
                Origin {
                    home,
                    file: Some(&file),
                    blame: blame.as_deref(),
                    ..Origin::default()
                },
            )
            .map_err(|error| error.at(&file))?;
        loaded.notes.splice(0..0, notes);
        Ok(loaded)
    }

    /// Returns the ceiling of a plugin, and human-readable notes about it.
    fn ceiling(&self, plugin: &PluginInfo, bytes: &[u8], origin: Origin<'_>) -> Result<(Ceiling, Vec<String>)> {
        let own = Ceiling::own(plugin);
        #[cfg(not(feature = "registry"))]
        let _ = (bytes, origin);
        #[cfg(feature = "registry")]
        match (origin.verdict, origin.file, &self.host.inner.project) {
            (Some(verdict), ..) => return Ok((own.within(verdict), verdict.notes.clone())),
            (None, Some(file), Some(project)) => {
                let verdict = project.judge_path(file, plugin, bytes)?;
                return Ok((own.within(&verdict), verdict.notes));
            }
            _ => {}
        }
        // Bytes from the embedder, or a host without a project and so without policies.
        Ok((own, Vec::new()))
    }

    /// Loads the plugin and all plugins below it.
    fn load_bytes(&mut self, bytes: &[u8], origin: Origin<'_>) -> Result<LoadedPlugin> {
        let plugin = PluginInfo::read(bytes)?;
        let (ceiling, mut notes) = self.ceiling(&plugin, bytes, origin)?;
        let mut dirs = self.dirs(&plugin, origin)?;
        let tool_grant = self.tool_grant(&plugin, origin, &mut notes)?;
        // Nothing reaches the documents of a plugin with a memory but the functions that are recorded.
        let memory = dirs.iter().position(|dir| plugin.has_memory() && dir.is_memory());
        let memory = memory.map(|place| dirs.remove(place));
        agenthost_plugin::refuse(&plugin.id.name, &plugin.imports, !dirs.is_empty(), origin.blame)?;
        if self.above.iter().any(|above| above.name == plugin.id.name) {
            let circle = self.above.iter().chain([&plugin.id]).map(|id| id.name.clone());
            return Err(LoadError::Circle {
                plugins: circle.collect(),
            }
            .into());
        }
        self.above.push(plugin.id.clone());
        let mut sub_agents = BTreeMap::new();
        for import in &plugin.sub_agents {
            let (source, limits, by) = self.place(&plugin, import, origin)?;
            let sub_agent = self
                .sub_agent(&source, by)
                .map_err(|error| error.context(&format!("sub-agent {}", import.plugin)))?;
            fits(&plugin, import, sub_agent.info())?;
            sub_agents.insert(
                import.import.clone(),
                SubAgent {
                    plugin: sub_agent,
                    limits,
                },
            );
        }
        self.above.pop();
        let imports: Vec<_> = sub_agents.keys().map(String::as_str).collect();
        let code = self
            .host
            .inner
            .sandbox
            .load(&plugin, bytes, &imports, !dirs.is_empty(), self.stop.as_ref())?;
        Ok(LoadedPlugin {
            info: plugin,
            code,
            sub_agents,
            dirs,
            memory,
            tool_grant,
            ceiling,
            notes,
        })
    }

    /// Returns the directories that a plugin gets.
    fn dirs(&mut self, plugin: &PluginInfo, origin: Origin<'_>) -> Result<Vec<DirGrant>> {
        let config = self.host.config();
        let name = &plugin.id.name;
        let mut dirs = config.grant(name).dirs;
        let path = origin.place().filter(|_| !dirs.is_empty());
        if let Some(path) = path
            && !trust::dirs::is_meant(config, name, path)?
        {
            // A directory of the caller replaces one of the grant at the same guest path.
            let is_given = |dir: &DirGrant| {
                let same = |given: &DirGrant| given.guest == dir.guest;
                self.above.is_empty() && self.dirs.iter().any(same)
            };
            dirs.retain(|dir| !is_given(dir));
            if !dirs.is_empty() {
                return Err(trust::dirs::refusal(config, name, path, &dirs).into());
            }
        }
        if self.above.is_empty() {
            dirs.append(&mut self.dirs);
        }
        DirGrant::check_distinct(&dirs).map_err(|problem| LoadError::SamePath {
            plugin: plugin.id.name.clone(),
            problem,
        })?;
        Ok(dirs)
    }

    /// Returns the tools of providers that the operator grants to a plugin. A plugin outside of the folders that the
    /// operator trusts does not get them, and a note says so.
    fn tool_grant(&mut self, plugin: &PluginInfo, origin: Origin<'_>, notes: &mut Vec<String>) -> Result<ToolGrant> {
        let (config, name) = (self.host.config(), &plugin.id.name);
        let withheld = match origin.place() {
            Some(path) => trust::server_tools::withheld(config, name, path)?,
            None => None,
        };
        let is_withheld = withheld.is_some();
        notes.extend(withheld.filter(|_| plugin.server_tools().is_ok_and(|asked| !asked.is_empty())));
        let given = match self.above.is_empty() {
            true => std::mem::take(&mut self.server_tools),
            false => ServerToolGrants::default(),
        };
        Ok(ToolGrant { given, is_withheld })
    }

    fn sub_agent(&mut self, place: &PluginSource, by: NamedBy) -> Result<Plugin> {
        let key = match place {
            PluginSource::Path(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
            // The key cannot equal a path: an absolute path has no colon in its first component.
            #[cfg(feature = "registry")]
            PluginSource::Reference(reference) => PathBuf::from(reference.to_string()),
        };
        if let Some(known) = self.loaded.get(&key) {
            return Ok(known.clone());
        }
        let loaded = self.load(place, by)?.shared();
        self.loaded.insert(key, loaded.clone());
        Ok(loaded)
    }

    /// Returns the name of a plugin that the lock file has.
    #[cfg(feature = "registry")]
    fn locked(&self, name: &str) -> Option<Name> {
        let project = self.host.inner.project.as_ref()?;
        let name = name.parse::<Name>().ok()?;
        project.lock().get(&name).map(|_| name)
    }

    /// Returns the place of the plugin behind an import, the limits of its tasks, and the source of the place.
    fn place(
        &mut self,
        plugin: &PluginInfo,
        import: &SubAgentImport,
        origin: Origin<'_>,
    ) -> Result<(PluginSource, Limits, NamedBy)> {
        let name = &import.plugin.name;
        let wrong = |problem| LoadError::Declaration {
            name: name.clone(),
            problem,
        };
        let declared = plugin.manifest.as_ref().map(|manifest| manifest.sub_agent(name));
        let declared = declared.transpose().map_err(wrong)?.flatten().unwrap_or_default();
        let limits = Limits::none().overridden_by(&declared.limits);
        if let Some(place) = self.with.get(name) {
            self.given.insert(name.clone());
            return Ok((place.clone(), limits, NamedBy::Caller));
        }
        if let Some(configured) = self.host.config().sub_agents().get(name) {
            let by = match self.host.config().is_by_project(&format!("sub-agents.{name}")) {
                true => NamedBy::Project,
                false => NamedBy::Caller,
            };
            return Ok((PluginSource::configured(name, configured)?, limits, by));
        }
        if let (Some(home), Some(SubAgentPlace::Path(path))) = (origin.home, &declared.place) {
            return Ok((home.join(path).into(), limits, NamedBy::Caller));
        }
        if let Some(beside) = beside(name, origin) {
            return Ok((beside.into(), limits, NamedBy::Caller));
        }
        #[cfg(feature = "registry")]
        if let Some(SubAgentPlace::Reference(text)) = &declared.place {
            let reference: Reference = text.parse().map_err(|error: ReferenceError| wrong(error.to_string()))?;
            return Ok((reference.into(), limits, NamedBy::Caller));
        }
        #[cfg(feature = "registry")]
        if let Some(name) = self.locked(name) {
            let requirement = Requirement::any();
            return Ok((Reference::Named { name, requirement }.into(), limits, NamedBy::Caller));
        }
        #[cfg(feature = "registry")]
        if self.host.inner.built_in.contains_key(name)
            && let Ok(name) = name.parse::<Name>()
        {
            let requirement = Requirement::any();
            return Ok((Reference::Named { name, requirement }.into(), limits, NamedBy::Caller));
        }
        Err(LoadError::Undeclared {
            plugin: plugin.id.to_string(),
            sub_agent: import.plugin.to_string(),
            name: name.clone(),
        }
        .into())
    }
}

/// Returns the file of the plugin `name` that is beside the component. A directory of components belongs together. The
/// target directory of a crate does not: it keeps the components of earlier builds, which nothing updates.
fn beside(name: &str, origin: Origin<'_>) -> Option<PathBuf> {
    let file = origin.file.filter(|_| origin.home.is_none())?;
    let short = name.split_once(':').map_or(name, |(_, name)| name);
    let beside = file.with_file_name(format!("{short}.wasm"));
    (beside.is_file() && beside != file).then_some(beside)
}

/// Checks that `found` is what `import` was built against: the same plugin, a compatible version, equal types.
fn fits(importer: &PluginInfo, import: &SubAgentImport, found: &PluginInfo) -> Result<(), LoadError> {
    let wanted = &import.plugin;
    let error = |problem: String| LoadError::Mismatch {
        plugin: importer.id.to_string(),
        name: importer.id.name.clone(),
        wanted: wanted.to_string(),
        wanted_name: wanted.name.clone(),
        problem,
    };
    if found.id.name != wanted.name {
        return Err(error(format!("what it is given is {}", found.id)));
    }
    if !compatible(wanted.version.as_deref(), found.id.version.as_deref()) {
        return Err(error(format!(
            "what it is given has the interface version {}",
            found.id
        )));
    }
    shape::same_shape(&importer.resolve, &import.run, &found.resolve, &found.run).map_err(|difference| {
        error(format!(
            "the types of `run` differ: {difference} (here: {}, there: {})",
            importer.id, found.id
        ))
    })
}

/// Compares interface versions by semver: the first non-zero number must be equal, and the given version not older.
fn compatible(wanted: Option<&str>, given: Option<&str>) -> bool {
    let parts = |version: &str| -> Option<[u64; 3]> {
        let (numbers, pre) = version
            .split_once('-')
            .map_or((version, None), |(numbers, pre)| (numbers, Some(pre)));
        if pre.is_some() {
            return None;
        }
        let numbers: Vec<u64> = numbers
            .split('.')
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    match (wanted, given) {
        (None, None) => true,
        (Some(wanted), Some(given)) => match (parts(wanted), parts(given)) {
            (Some([0, 0, a]), Some([0, 0, b])) => a == b,
            (Some([0, minor, a]), Some([0, given, b])) => minor == given && b >= a,
            (Some([major, a, x]), Some([given, b, y])) => major == given && (b, y) >= (a, x),
            // A pre-release is compatible only with itself.
            _ => wanted == given,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_beside_counts_only_for_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (top, sub) = (dir.path().join("top.wasm"), dir.path().join("sub.wasm"));
        std::fs::write(&sub, "").unwrap();
        let of_file = Origin {
            file: Some(&top),
            ..Origin::default()
        };
        assert_eq!(beside("demo:sub", of_file).as_ref(), Some(&sub));
        assert_eq!(beside("demo:other", of_file), None);
        // An earlier build left it in the target directory of the crate.
        let of_crate = Origin {
            home: Some(dir.path()),
            ..of_file
        };
        assert_eq!(beside("demo:sub", of_crate), None);
        let itself = Origin {
            file: Some(&sub),
            ..Origin::default()
        };
        assert_eq!(beside("demo:sub", itself), None);
    }

    #[test]
    fn interface_versions_are_compared_as_semver() {
        let yes = [
            ("0.1.0", "0.1.0"),
            ("0.1.0", "0.1.7"),
            ("1.2.3", "1.3.0"),
            ("1.0.0-rc.1", "1.0.0-rc.1"),
        ];
        let no = [
            ("0.1.0", "0.2.0"),
            ("0.1.2", "0.1.1"),
            ("1.3.0", "1.2.9"),
            ("2.0.0", "3.0.0"),
            ("0.0.1", "0.0.2"),
        ];
        for (wanted, given) in yes {
            assert!(compatible(Some(wanted), Some(given)), "{wanted} {given}");
        }
        for (wanted, given) in no {
            assert!(!compatible(Some(wanted), Some(given)), "{wanted} {given}");
        }
        assert!(compatible(None, None));
        assert!(!compatible(Some("0.1.0"), None));
    }
}
