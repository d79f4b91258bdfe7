//! `agenthost push`: publishes a plugin to a registry, signed.

use std::process::ExitCode;

use semver::Version;
use serde_json::json;

use super::compiled;
use super::global::Global;
use super::output::{Printer, counted};
use super::registry::open;
use agenthost::PluginSource;
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::plugin::{Manifest, PluginInfo};
use agenthost::registry::signature::{self, PublicKey, sign};
use agenthost::registry::statement::{Statement, identity};
use agenthost::registry::{Name, OciReference, Publication, Reference, Requirement, Source, Tag, local};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin: a .wasm file, or a crate directory to build
    plugin: String,
    /// The destination: the plugin's own name, for the registry in [registries], or a place in an OCI registry, such as
    /// registry.example/acme/competitor; a version must be the plugin's [default: its own name]
    #[arg(value_name = "REF")]
    reference: Option<String>,
    /// Sign the plugin with this key; signatures beside the file, in PLUGIN.wasm.minisig, are published in any case
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Print one JSON document about the published release
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn push(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let project = open(global, env)?;
    let PluginSource::Path(path) = PluginSource::parse(&args.plugin, env.cwd())? else {
        return Err(
            Error::usage(format!("{} is neither a file nor a directory", args.plugin))
                .with_hint("What is pushed is a .wasm file or a crate; what a registry has is there already."),
        );
    };
    // Checked before a build, since the command would fail after it otherwise.
    let asked = args.reference.as_deref().map(str::parse::<Reference>).transpose()?;
    if let Some(asked) = &asked {
        project.source(asked).await?;
    }
    let secret = args
        .key
        .as_deref()
        .map(|key| super::key::secret(key, env))
        .transpose()?;
    let path = match path.is_dir() {
        true => {
            super::crates::ask(&path, None, env, printer)?;
            let built = super::crates::rules_alone(env).release(&path)?;
            built.notes.iter().for_each(|note| printer.note(note));
            built.path
        }
        false => path,
    };
    let bytes = agenthost::plugin::read(&path)?;
    let plugin = PluginInfo::read(&bytes).map_err(|error| Error::from(error).at(&path))?;
    agenthost::plugin::refuse(&plugin.id.name, &plugin.imports, true, None)?;
    let compiled = compiled::check(&plugin, &bytes, &global.config(env)?, env)?;
    let (name, version) = identity(&plugin)?;
    let suggested = plugin.manifest.as_ref().map(Manifest::suggested).transpose();
    suggested.map_err(|why| {
        Error::plugin(format!("its manifest's limits: {why}"))
            .at(&path)
            .with_hint("Correct them under [package.metadata.agenthost.limits] in its Cargo.toml, and build it again.")
    })?;
    let reference = asked.unwrap_or_else(|| Reference::Named {
        name: name.clone(),
        requirement: Requirement::any(),
    });
    fits(&reference, &name, &version)?;
    let mut signatures = local::signatures_beside(&path)?;
    for text in &signatures {
        // The reader decides which signers to trust; this only checks that the file is a signature.
        signature::Signature::parse(text).map_err(|error| Error::from(error).at(&signature::beside(&path)))?;
    }
    let source = project.source(&reference).await?;
    let mut signed = false;
    if let (Some(secret), Some(key)) = (&secret, &args.key) {
        signed = has_signed(&*source, &secret.public(), &plugin, &version, &bytes).await;
        match signed {
            true => printer.note(&format!("it is signed with {key} there already")),
            false => signatures.push(sign(secret, &bytes, &Statement::of(&plugin)?)?),
        }
    }
    let published = source
        .publish(Publication {
            plugin: &plugin,
            name: &name,
            version: &version,
            bytes: &bytes,
            signatures: &signatures,
        })
        .await?;
    let place = source.place();
    if args.json {
        printer.data(&json!({
            "format": 1, "name": name, "version": version, "source": place, "digest": published.release.digest,
            "manifest": published.release.manifest, "existed": published.existed, "signatures": signatures.len(),
            "compile": compiled::document(&compiled),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    printer.text(format!("{name}@{version} {}", published.release.digest))?;
    printer.say(&format!("compiles: {}", compiled::words(&compiled)));
    printer.say(&match published.existed {
        true => format!("{place} had it already"),
        false => format!("published to {place}"),
    });
    // An earlier publication may have signed it.
    let there = match signatures.is_empty() && !signed {
        true if published.existed => source.signatures(&published.release).await?.len() as u64,
        true => 0,
        false => return Ok(ExitCode::SUCCESS),
    };
    match there {
        0 => printer.note("it is not signed, and most policies refuse that; sign it with --key NAME"),
        there => printer.say(&format!("it has {} there already", counted(there, "signatures"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns whether the registry has a signature of this key, with its statement, for these very bytes. An error counts
/// as `false`, since publishing will meet it again.
async fn has_signed(
    source: &dyn Source,
    key: &PublicKey,
    plugin: &PluginInfo,
    version: &Version,
    bytes: &[u8],
) -> bool {
    let there = async {
        let release = source.find(&Tag::Version(version.clone())).await?;
        source.signatures(&release).await
    };
    let Ok(signatures) = there.await else { return false };
    let signed = signature::check(&signatures, &[*key], plugin, bytes).unwrap_or_default();
    signed.iter().any(|verified| verified.statement.is_some())
}

/// Checks that a reference can mean this plugin.
fn fits(reference: &Reference, name: &Name, version: &Version) -> Result<()> {
    let other = |what: String| {
        Error::usage(format!("{reference} was asked for, and {what}")).with_hint(
            "Name the plugin as it names itself: its version stands in its Cargo.toml, its name in its WIT package.",
        )
    };
    match reference {
        Reference::Named { name: wanted, .. } if wanted != name => Err(other(format!("the plugin is {name}"))),
        Reference::Named { requirement, .. }
            if !requirement.is_any() && requirement.exact().as_ref() != Some(version) =>
        {
            Err(other(format!("its version is {version}")))
        }
        Reference::Oci(OciReference {
            tag: Some(Tag::Version(wanted)),
            ..
        }) if wanted != version => Err(other(format!("its version is {version}"))),
        Reference::Oci(OciReference {
            tag: Some(Tag::Name(_) | Tag::Manifest(_)),
            ..
        }) => Err(other(format!("it is published under its version, {version}"))),
        _ => Ok(()),
    }
}
