//! A crate's WIT: its files, read and resolved, and the world that makes it a plugin.
//!
//! Bounded by the form of a plugin: text files, one package of its own, one world that exports an interface `task` with
//! the single function `run`. Left out: fetching anything; a package that is missing in `wit/deps/` is an error.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use wit_bindgen_core::wit_parser::{
    InterfaceId, PackageId, PackageName, Resolve, SourceMap, TypeDefKind, UnresolvedPackage, UnresolvedPackageGroup,
    WorldId, WorldItem, WorldKey,
};

/// The shared package's text; the SDK supports exactly this version.
const CONTRACT: &str = include_str!("../plugin.wit");

/// One WIT file of the crate.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// The path below the WIT directory, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The WIT of a crate.
pub(crate) struct Source {
    pub(crate) resolve: Resolve,
    pub(crate) package: PackageName,
    pub(crate) world: WorldId,
    /// The exported interface `task`.
    pub(crate) task: InterfaceId,
    /// The files of the crate's own package.
    pub(crate) own: Vec<File>,
    /// The files in `deps/`, the shared package's copy left out.
    pub(crate) deps: Vec<File>,
    /// Every file read, for rebuilds.
    pub(crate) read: Vec<PathBuf>,
}

/// Returns whether this is the shared package, which comes with the SDK.
pub(crate) fn is_contract(name: &PackageName) -> bool {
    name.namespace == "agenthost" && name.name == "plugin"
}

/// The shared package alone, with the world that has all imports. A component has only those that its code uses.
pub(crate) fn contract() -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let package = push(&mut resolve, parse(&[("plugin.wit", CONTRACT)])?, Vec::new())?;
    let world = resolve.select_world(&[package], Some("plugin-with-memory"))?;
    Ok((resolve, world))
}

impl Source {
    /// Reads the directory `path` of the crate at `root`.
    pub(crate) fn read(root: &Path, path: &str, world: Option<&str>) -> Result<Source> {
        let dir = root.join(path);
        ensure!(
            dir.is_dir(),
            "no directory `{path}` in {}\nhint: write the plugin's interface there, as in `{path}/world.wit`, or name another directory: \
             `plugin!(path = \"…\")`",
            root.display()
        );
        let own = files(&dir, "")?;
        ensure!(!own.is_empty(), "no .wit file in {}", dir.display());
        let deps = Deps::read(&root.join(path), path)?;
        let mut source = Source::resolve(path, own, deps, world)?;
        let own = source.own.iter().map(|file| file.path.clone());
        source.read.splice(0..0, own);
        Ok(source)
    }

    /// Resolves the package in this text.
    pub(crate) fn written(text: String, deps: Deps, world: Option<&str>) -> Result<Source> {
        Source::resolve("wit", written(text), deps, world)
    }

    fn resolve(path: &str, own: Vec<File>, deps: Deps, world: Option<&str>) -> Result<Source> {
        let Deps { files, groups, read } = deps;
        let (resolve, package) = resolve(path, &own, groups)?;
        let world = select(&resolve, package, world)?;
        let task = task(&resolve, world)?;
        let package = resolve.packages[package].name.clone();
        Ok(Source {
            resolve,
            package,
            world,
            task,
            own,
            deps: files,
            read,
        })
    }
}

/// Resolves the only world in this text, which need not export a task.
pub(crate) fn world(text: String, deps: Deps) -> Result<(Resolve, WorldId)> {
    let (resolve, package) = resolve("wit", &written(text), deps.groups)?;
    let world = resolve.select_world(&[package], None)?;
    Ok((resolve, world))
}

/// Wraps generated text as the file in which an author would write it.
fn written(text: String) -> Vec<File> {
    vec![File {
        path: PathBuf::new(),
        name: "world.wit".to_owned(),
        text,
    }]
}

fn resolve(path: &str, own: &[File], deps: Vec<UnresolvedPackageGroup>) -> Result<(Resolve, PackageId)> {
    let main = parse_files(path, own)?;
    let (mut resolve, _) = contract()?;
    let package = push(&mut resolve, main, deps)?;
    Ok((resolve, package))
}

/// The packages in a `deps` directory.
#[derive(Default)]
pub(crate) struct Deps {
    files: Vec<File>,
    groups: Vec<UnresolvedPackageGroup>,
    /// Every file read.
    read: Vec<PathBuf>,
}

impl Deps {
    /// Reads the directory `deps` in `dir`, if it exists. Error messages call `dir` by the name `path`.
    pub(crate) fn read(dir: &Path, path: &str) -> Result<Deps> {
        let mut deps = Deps::default();
        for files in packages(&dir.join("deps"))? {
            deps.read.extend(files.iter().map(|file| file.path.clone()));
            let mut group = parse_files(path, &files)?;
            group.nested.retain(|package| !is_contract(&package.name));
            if is_contract(&group.main.name) {
                ensure_same(path, &files, &group.main)?;
            } else {
                deps.files.extend(files);
                deps.groups.push(group);
            }
        }
        Ok(deps)
    }

    /// Reads the package in this text. Error messages call its directory by the name `path`.
    pub(crate) fn written(text: &str, path: &str) -> Result<Deps> {
        let file = File {
            path: PathBuf::new(),
            name: "deps/inline.wit".to_owned(),
            text: text.to_owned(),
        };
        let groups = vec![parse_files(path, std::slice::from_ref(&file))?];
        Ok(Deps {
            files: vec![file],
            groups,
            read: Vec::new(),
        })
    }

    /// The packages.
    pub(crate) fn names(&self) -> Vec<&PackageName> {
        self.groups.iter().map(|group| &group.main.name).collect()
    }
}

/// The .wit files of a directory, by name.
fn files(dir: &Path, prefix: &str) -> Result<Vec<File>> {
    let mut found = Vec::new();
    for path in entries(dir)? {
        if path.is_file() && path.extension().is_some_and(|extension| extension == "wit") {
            found.push(file(path, prefix)?);
        }
    }
    Ok(found)
}

fn file(path: PathBuf, prefix: &str) -> Result<File> {
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = format!("{prefix}{}", name(&path)?);
    Ok(File { path, name, text })
}

fn name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| anyhow!("not a UTF-8 name: {}", path.display()))
}

/// The packages of a `deps` directory: each a directory of files, or one file.
fn packages(dir: &Path) -> Result<Vec<Vec<File>>> {
    let mut found = Vec::new();
    if !dir.is_dir() {
        return Ok(found);
    }
    for path in entries(dir)? {
        if path.is_dir() {
            let prefix = format!("deps/{}/", name(&path)?);
            found.push(files(&path, &prefix)?);
        } else if path.extension().is_some_and(|extension| extension == "wit") {
            found.push(vec![file(path, "deps/")?]);
        }
    }
    found.retain(|files| !files.is_empty());
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("cannot read the directory {}", dir.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(read)? {
        paths.push(entry.with_context(read)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn parse_files(dir: &str, files: &[File]) -> Result<UnresolvedPackageGroup> {
    let named: Vec<(String, &str)> = files
        .iter()
        .map(|file| (format!("{dir}/{}", file.name), file.text.as_str()))
        .collect();
    parse(&named)
}

fn parse<N: AsRef<str>>(files: &[(N, &str)]) -> Result<UnresolvedPackageGroup> {
    let mut map = SourceMap::default();
    for (name, text) in files {
        map.push_str(name.as_ref(), *text);
    }
    map.parse().map_err(|(map, error)| anyhow!("{}", error.render(&map)))
}

fn push(resolve: &mut Resolve, main: UnresolvedPackageGroup, deps: Vec<UnresolvedPackageGroup>) -> Result<PackageId> {
    resolve
        .push_groups(main, deps)
        .map_err(|error| anyhow!("{}", error.render(&resolve.source_map)))
}

/// Returns an error unless a copy of the shared package equals the SDK's, apart from comments.
fn ensure_same(dir: &str, files: &[File], copy: &UnresolvedPackage) -> Result<()> {
    let place = format!("{dir}/{}", files.first().map_or("deps", |file| file.name.as_str()));
    let (ours, _) = contract()?;
    let known = ours.package_names.keys().next();
    let hint = "hint: delete the copy, agenthost-sdk brings the package with it";
    ensure!(
        known == Some(&copy.name),
        "`{place}` holds {}, and this agenthost-sdk has {}\n{hint}",
        copy.name,
        known.map(ToString::to_string).unwrap_or_default()
    );
    let mut theirs = Resolve::default();
    push(&mut theirs, parse_files("", files)?, Vec::new())?;
    ensure!(
        shape(&ours)? == shape(&theirs)?,
        "`{place}` holds {} with other types than this agenthost-sdk\n{hint}",
        copy.name
    );
    Ok(())
}

/// A resolved package as JSON, without its comments.
fn shape(resolve: &Resolve) -> Result<serde_json::Value> {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.remove("docs");
                fields.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(resolve)?;
    strip(&mut value);
    Ok(value)
}

/// The world named, or the only one that exports a task.
fn select(resolve: &Resolve, package: PackageId, name: Option<&str>) -> Result<WorldId> {
    let package = &resolve.packages[package];
    let names = || {
        package
            .worlds
            .keys()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(name) = name {
        return package.worlds.get(name).copied().ok_or_else(|| {
            anyhow!(
                "no world `{name}` in {}\nhint: its worlds are {}",
                package.name,
                names()
            )
        });
    }
    let tasks: Vec<(&String, WorldId)> = package
        .worlds
        .iter()
        .map(|(name, id)| (name, *id))
        .filter(|(_, id)| exported(resolve, *id, "task").is_some())
        .collect();
    match tasks.as_slice() {
        [(_, world)] => Ok(*world),
        [] => bail!(
            "no world of {} exports an interface `task`\nhint: {}",
            package.name,
            "write `interface task { … run: async func(input: …) -> result<…, failure>; }` and `world … { include \
             agenthost:plugin/plugin@0.1.0; export task; }`"
        ),
        [(first, _), ..] => bail!(
            "several worlds of {} export an interface `task`\nhint: choose one of {}, as in `plugin!(\"{first}\")`",
            package.name,
            names()
        ),
    }
}

fn exported(resolve: &Resolve, world: WorldId, name: &str) -> Option<InterfaceId> {
    resolve.worlds[world]
        .exports
        .iter()
        .find_map(|(key, item)| match (key, item) {
            (WorldKey::Interface(id), WorldItem::Interface { .. })
                if resolve.interfaces[*id].name.as_deref() == Some(name) =>
            {
                Some(*id)
            }
            _ => None,
        })
}

/// Returns the exported interface `task`, or an error if a host cannot call it as a task.
fn task(resolve: &Resolve, world: WorldId) -> Result<InterfaceId> {
    let named = &resolve.worlds[world];
    let Some(id) = exported(resolve, world, "task") else {
        bail!(
            "the world `{}` exports no interface `task`\nhint: add `export task;`",
            named.name
        );
    };
    let others: Vec<String> = named
        .exports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .filter(|name| Some(name) != resolve.id_of(id).as_ref())
        .collect();
    ensure!(
        others.is_empty(),
        "the world `{}` exports {} besides `task`\nhint: a plugin exports `task` alone",
        named.name,
        others.join(", ")
    );
    let interface = &resolve.interfaces[id];
    let functions: Vec<&str> = interface.functions.keys().map(String::as_str).collect();
    ensure!(
        functions == ["run"],
        "the interface `task` has {}\nhint: it has exactly one function, `run`",
        if functions.is_empty() {
            "no function".to_owned()
        } else {
            format!("the functions {}", functions.join(", "))
        }
    );
    for (name, id) in &interface.types {
        let resource = resolve.types[*id].kind == TypeDefKind::Resource;
        ensure!(
            !resource,
            "the interface `task` has a resource `{name}`\nhint: a task takes and gives plain values"
        );
    }
    Ok(id)
}
