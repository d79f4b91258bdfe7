//! Shares plugins between teams: names, releases, and the registries that hold them.
//!
//! A *registry* holds releases of plugins: an OCI registry ([`oci`]) or a directory ([`local`]). A [`Source`] is the
//! part of a registry that holds one plugin. The host trusts nothing that a registry sends: it is hashed on the way
//! into the [`cache`], which is addressed by content, and [`Source::fetch`] returns nothing until size and digest match
//! the release.
//!
//! The [`lock`] file lists what a project uses, a [`policy`] states who may publish what and what may run, and a
//! [`vetted`] file records who reviewed what; [`project`] combines them. Nothing here runs a plugin, and no task calls
//! this crate: a host reads the lock and the cache before anything starts, and never fetches.

pub mod asks;
mod built_in;
pub mod cache;
mod error;
mod files;
#[cfg(feature = "signing")]
pub mod keys;

pub mod local;
pub mod lock;
pub mod oci;
pub mod policy;
pub mod project;
pub mod reference;
pub mod signature;
mod source;
pub mod statement;
#[cfg(test)]
mod testing;
pub mod vetted;

pub use self::error::{
    CacheError, CredentialsError, KeyDirProblem, LocalError, LockError, ManifestProblem, OciError, OciProblem,
    OciRequestError, PolicyError, PolicyRule, PublicKeyError, ReferenceError, Refusal, RegistryError, SignatureError,
    SigningKeyError, StatementError, TamperProblem, VetError,
};
pub use self::reference::{Name, OciReference, Reference, Requirement, Tag};
pub use self::signature::{MAX_SIGNATURE_BYTES, MAX_SIGNATURES};
pub use self::source::{Publication, Published, Release, Source};
