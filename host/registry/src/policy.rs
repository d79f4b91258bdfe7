//! What may run: who may publish which names, the most that a plugin may be granted, and whether what nobody signed or
//! vetted runs at all.
//!
//! A policy is any number of files (`agenthost-policy.toml` of a project, one of its team, or both). They do not replace
//! each other: whatever one of them refuses is refused, limits are the smallest, model names are those that all of them
//! have. Silence says nothing: the defaults hold where no file says otherwise. A refusal names the rule and its place.
//!
//! A policy judges a plugin whose bytes are at hand. It fetches nothing, and what the operator grants is narrowed by
//! whoever asked.

mod file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::file::{Denied, File, Rule, Rules, Signer};
use super::asks::Asks;
use super::signature::{self, PublicKey, Signature, Verified};
use super::vetted::Vetted;
use agenthost_config::Env;
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::Limits;
use agenthost_core::printable::shell_word;
use agenthost_plugin::Plugin;

/// The name of a project's policy.
pub const POLICY_FILE: &str = "agenthost-policy.toml";

/// What may run, from all files that apply.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    files: Vec<File>,
}

/// Which way a plugin came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From a registry.
    Reference {
        /// The place there.
        place: String,
    },
    /// From a file or a crate of this machine.
    Path(PathBuf),
}

/// A plugin that wants to run.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// What it is.
    pub plugin: &'a Plugin,
    /// Its component.
    pub bytes: &'a [u8],
    /// Which way it came.
    pub origin: Origin,
    /// Its signatures, unchecked.
    pub signatures: &'a [String],
    /// What the vet files say of its digest; none where it is not asked, since vetting comes after what is being done.
    pub vetted: Option<&'a [&'a Vetted]>,
}

/// A crate that wants to be built, as far as its files tell.
#[derive(Debug, Clone)]
pub struct CrateCandidate {
    /// Its directory.
    pub dir: PathBuf,
    /// `namespace:name`, if its WIT says so.
    pub name: Option<String>,
    /// Whether what it builds may turn out to be signed.
    pub may_be_signed: bool,
    /// Whether what it builds may turn out to be vetted.
    pub may_be_vetted: bool,
}

/// What a plugin that may run may have.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDecision {
    /// Who published it, by the name in the policy, where a signer who may did.
    pub signer: Option<(String, PublicKey)>,
    /// Who vetted it.
    pub vetted_by: Vec<String>,
    /// What was not required, for people.
    pub notes: Vec<String>,
    /// The most that it may be granted.
    pub max: Limits,
    /// The model names that it may be granted; none is any.
    pub models: Option<BTreeSet<String>>,
}

/// What no signature, or no vetting, comes to.
#[derive(Clone, Copy)]
enum Lack {
    Unsigned,
    Unvetted,
}

/// The choice of all files together.
struct Ruling {
    allow: bool,
    /// `[references] unsigned = "deny" (FILE:LINE)`
    text: String,
    /// The file to change, and how.
    other: String,
}

impl Policy {
    /// The policy of all `files` together; without any, the defaults: what comes from a registry has to be signed and
    /// vetted, what is a file of this machine need not be. Relative paths are relative to `env`'s working directory.
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) for a file that cannot be read or is wrong, with its line.
    pub(super) fn load(env: &Env, files: &[PathBuf]) -> Result<Self> {
        let files = files.iter().map(|path| file::read(env, env.cwd().join(path)));
        Ok(Self {
            files: files.collect::<Result<_>>()?,
        })
    }

    /// The files that were read, as people should read them.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.shown.as_str())
    }

    /// The vet files that count, absolute; some may not be there yet.
    pub fn vet_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in self.files.iter().flat_map(|file| &file.vetted) {
            if !found.contains(path) {
                found.push(path.clone());
            }
        }
        found
    }

    /// The keys of all signers.
    pub fn keys(&self) -> Vec<PublicKey> {
        let signers = self.files.iter().flat_map(|file| &file.signers);
        let keys: BTreeSet<_> = signers.map(|signer| signer.key).collect();
        keys.into_iter().collect()
    }

    /// Whether `candidate` may run, and what it may have at most.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) where it may not, for a signature of a signer that does not verify, and
    /// for a vet file that says of it what is not so.
    pub fn judge(&self, candidate: &Candidate<'_>) -> Result<PolicyDecision> {
        let (plugin, name) = (candidate.plugin, &candidate.plugin.id.name);
        for denial in self.files.iter().flat_map(|file| &file.deny) {
            if denial.what.covers(plugin) {
                return Err(
                    refused(plugin, format!("`deny` has {} ({})", denial.what, denial.place)).with_hint(format!(
                        "Use another release or plugin; whoever keeps the policy can take {} out of `deny`.",
                        denial.what
                    )),
                );
            }
        }
        let mut notes = Vec::new();
        let verified = signature::check(candidate.signatures, &self.keys(), plugin, candidate.bytes)?;
        let signer = self.signer(candidate, &verified, &mut notes)?;
        let vetted_by = match candidate.vetted {
            Some(entries) => self.vetted(candidate, entries, &mut notes)?,
            None => Vec::new(),
        };
        // Who has no policy has not asked for remarks either.
        if self.files.is_empty() {
            notes.clear();
        }
        let mut verdict = PolicyDecision {
            signer,
            vetted_by,
            notes,
            max: Limits::none(),
            models: None,
        };
        let bounds = self.files.iter().flat_map(|file| &file.bounds);
        for bound in bounds.filter(|bound| bound.names.matches(name)) {
            verdict.max = verdict.max.narrowed_by(&bound.limits);
            verdict.models = match (verdict.models.take(), &bound.models) {
                (Some(one), Some(other)) => Some(one.intersection(other).cloned().collect()),
                (one, other) => one.or_else(|| other.clone()),
            };
        }
        Ok(verdict)
    }

    /// Whether it is clear before a build that its result will not run: a build runs code, and there is no need for that of a
    /// plugin that is refused anyway. What it builds is judged once more.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), naming the rule.
    pub fn judge_crate(&self, candidate: &CrateCandidate) -> Result<()> {
        let shown = candidate.dir.display();
        let refused = |why: String| Error::denied(format!("{shown} is not built: {why}"));
        let covers = |what: &Denied| match (what, &candidate.name) {
            (Denied::Names(pattern), Some(name)) => pattern.matches(name),
            _ => false,
        };
        let denials = self.files.iter().flat_map(|file| &file.deny);
        if let Some(denial) = denials.into_iter().find(|denial| covers(&denial.what)) {
            return Err(
                refused(format!("`deny` has {} ({})", denial.what, denial.place)).with_hint(format!(
                    "Use another plugin; whoever keeps the policy can take {} out of `deny`.",
                    denial.what
                )),
            );
        }
        let origin = Origin::Path(candidate.dir.clone());
        for (lack, possible, what) in [
            (
                Lack::Unsigned,
                candidate.may_be_signed,
                "what is built here is not signed",
            ),
            (
                Lack::Unvetted,
                candidate.may_be_vetted,
                "nobody has vetted a plugin of its name",
            ),
        ] {
            let ruling = self.ruling(&origin, lack);
            if !ruling.allow && !possible {
                return Err(refused(format!("{what}, and {}", ruling.text)).with_hint(format!(
                    "Run a signed and vetted .wasm file of it, or {}.",
                    ruling.other
                )));
            }
        }
        Ok(())
    }

    /// Whose it is. Where unsigned plugins are refused, every file that has signers wants one of its own.
    fn signer(
        &self,
        candidate: &Candidate<'_>,
        verified: &[Verified],
        notes: &mut Vec<String>,
    ) -> Result<Option<(String, PublicKey)>> {
        let name = &candidate.plugin.id.name;
        let has = |signer: &&Signer| verified.iter().any(|verified| verified.key == signer.key);
        let ruling = self.ruling(&candidate.origin, Lack::Unsigned);
        let mut found = None;
        let files = self.files.iter().filter(|file| !file.signers.is_empty());
        let mut lacking = None;
        for file in files.clone() {
            let own = file.signers.iter().filter(has).find(|signer| signer.may_publish(name));
            match own {
                Some(signer) => found = found.or_else(|| Some((signer.name.clone(), signer.key))),
                None => lacking = lacking.or(Some(file)),
            }
        }
        if ruling.allow {
            if found.is_none() {
                notes.push(format!(
                    "no signer who may publish it has signed it, which {} permits",
                    ruling.text
                ));
            }
            return Ok(found);
        }
        if found.is_some() && lacking.is_none() {
            return Ok(found);
        }
        Err(unsigned(candidate, &ruling, lacking, has))
    }

    /// Who vetted it. Where unvetted plugins are refused, every file that names vet files wants an entry in one of them.
    fn vetted(&self, candidate: &Candidate<'_>, entries: &[&Vetted], notes: &mut Vec<String>) -> Result<Vec<String>> {
        let plugin = candidate.plugin;
        let entries = entries.iter().filter(|entry| entry.digest == plugin.digest);
        let entries = entries.copied().collect::<Vec<_>>();
        entries.iter().try_for_each(|entry| agrees(entry, plugin))?;
        let mut who: Vec<String> = Vec::new();
        for entry in &entries {
            if !who.contains(&entry.who) {
                who.push(entry.who.clone());
            }
        }
        let ruling = self.ruling(&candidate.origin, Lack::Unvetted);
        if ruling.allow {
            if who.is_empty() {
                notes.push(format!("nobody has vetted it, which {} permits", ruling.text));
            }
            return Ok(who);
        }
        let has = |path: &PathBuf| {
            entries
                .iter()
                .any(|entry| entry.file().is_some_and(|file| same(file, path)))
        };
        let mut files = self.files.iter().filter(|file| !file.vetted.is_empty());
        let lacking = files.find(|file| !file.vetted.iter().any(has));
        if lacking.is_none() && !who.is_empty() {
            return Ok(who);
        }
        let by = match (who.is_empty(), lacking) {
            (true, _) | (_, None) => "nobody has vetted it".to_owned(),
            (false, Some(file)) => format!("nobody has vetted it in a file that {} names", file.shown),
        };
        let what = match &candidate.origin {
            Origin::Reference { .. } => plugin.release().map_or_else(
                || plugin.id.name.clone(),
                |version| format!("{}@{version}", plugin.id.name),
            ),
            Origin::Path(path) => shell_word(&path.to_string_lossy()).into_owned(),
        };
        Err(refused(plugin, format!("{by}, and {}", ruling.text)).with_hint(format!(
            "Look at it and vouch for it: `agenthost vet {what} --accept`. Or {}.",
            ruling.other
        )))
    }

    /// What all files together say of plugins that lack something.
    fn ruling(&self, origin: &Origin, lack: Lack) -> Ruling {
        type Rulebook = fn(&File) -> &Rules;
        let (section, rules, default): (_, Rulebook, _) = match origin {
            Origin::Reference { .. } => ("references", |file| &file.references, false),
            Origin::Path(_) => ("paths", |file| &file.paths, true),
        };
        let (key, rule): (_, fn(&Rules) -> Option<&Rule>) = match lack {
            Lack::Unsigned => ("unsigned", |rules| rules.unsigned.as_ref()),
            Lack::Unvetted => ("unvetted", |rules| rules.unvetted.as_ref()),
        };
        let said = self.files.iter().filter_map(|file| Some((file, rule(rules(file))?)));
        let strictest = said.min_by_key(|(_, rule)| rule.allow);
        let allow = strictest.map_or(default, |(_, rule)| rule.allow);
        let word = if allow { "allow" } else { "deny" };
        let (place, file) = match strictest {
            Some((file, rule)) => (rule.place.to_string(), file.shown.as_str()),
            None => ("the default, as no policy file says otherwise".to_owned(), POLICY_FILE),
        };
        Ruling {
            allow,
            text: format!("[{section}] {key} = \"{word}\" ({place})"),
            other: format!("write {key} = \"allow\" under [{section}] in {file}"),
        }
    }
}

fn refused(plugin: &Plugin, why: impl AsRef<str>) -> Error {
    let release = plugin
        .release()
        .map_or_else(String::new, |release| format!(" {release}"));
    Error::denied(format!("{}{release} may not run: {}", plugin.id.name, why.as_ref()))
}

/// Why its signatures do not do, for the file that wants one of its own.
fn unsigned(
    candidate: &Candidate<'_>,
    ruling: &Ruling,
    lacking: Option<&File>,
    has: impl Fn(&&Signer) -> bool,
) -> Error {
    let (plugin, name) = (candidate.plugin, &candidate.plugin.id.name);
    let signers = lacking.map_or(&[][..], |file| &file.signers);
    let shown = lacking.map_or(POLICY_FILE, |file| &file.shown);
    if candidate.signatures.is_empty() {
        return refused(plugin, format!("it is not signed, and {}", ruling.text)).with_hint(format!(
            "Ask its publisher for a signature (`agenthost key sign`), or {}.",
            ruling.other
        ));
    }
    if let Some(signer) = signers.iter().find(has) {
        let names = signer.publishes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let may = if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        };
        let why = format!(
            "its signer {} may publish {may} ({}), and {}",
            signer.name, signer.place, ruling.text
        );
        return refused(plugin, why).with_hint(format!(
            "If {} may publish it, add \"{name}\" to `publishes` under [signers.{}] in {shown}.",
            signer.name, signer.name
        ));
    }
    let ids = candidate
        .signatures
        .iter()
        .filter_map(|text| Signature::parse(text).ok());
    let ids = ids.map(|signature| signature.key_id()).collect::<BTreeSet<_>>();
    let ids = ids.into_iter().collect::<Vec<_>>().join(", ");
    let none = match lacking {
        Some(file) => format!("which is no signer's in {}", file.shown),
        None => "and no policy file has [signers]".to_owned(),
    };
    let namespace = name.split_once(':').map_or(name.as_str(), |(namespace, _)| namespace);
    refused(
        plugin,
        format!("it is signed by the key {ids}, {none}, and {}", ruling.text),
    )
    .with_hint(format!(
        "If you trust its publisher, add their key, as they tell it to you, to {shown}:\n\n\
         [signers.{namespace}]\nkey = \"RW…\"\npublishes = [\"{name}\"]"
    ))
}

/// Whether what was written down when it was vetted is what it is.
fn agrees(entry: &Vetted, plugin: &Plugin) -> Result<()> {
    let place = entry
        .place()
        .map_or_else(|| "a vet file".to_owned(), ToString::to_string);
    let wrong = |what: String| {
        Err(refused(plugin, format!("{place} has its digest, and says {what}"))
            .with_hint("Somebody changed that file by hand; vet the plugin again, or restore the file."))
    };
    if entry.plugin.to_string() != plugin.id.name {
        return wrong(format!("it is {}", entry.plugin));
    }
    if plugin
        .release()
        .is_some_and(|release| release != entry.version.to_string())
    {
        return wrong(format!("it is version {}", entry.version));
    }
    match entry.asks.changes(&Asks::of(plugin)).first() {
        Some(change) => wrong(format!("it asks for something else: {change}")),
        None => Ok(()),
    }
}

/// Whether two paths are one file.
fn same(one: &Path, other: &Path) -> bool {
    one == other
        || match (one.canonicalize(), other.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
}

#[cfg(test)]
mod tests;
