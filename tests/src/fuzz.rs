//! The fuzz targets: one function for each kind of bytes that reach the host from outside.
//!
//! Each takes any bytes and panics if a promise is broken: that nothing panics, that what is read and written is read
//! again as the same, that an accepted plugin can be described. `fuzz/` hands them to cargo-fuzz, and the test `fuzz`
//! runs them over the committed corpora with a stable compiler. Left out: what needs more than one input, such as
//! upgrades, and anything that waits.

mod components;
mod documents;
mod journals;
mod replies;
mod values;

use std::sync::OnceLock;

use agenthost::Host;

pub use self::components::{component, sections};
pub use self::documents::{files, references};
pub use self::journals::{journal, records};
pub use self::replies::replies;
pub use self::values::values;

/// Takes bytes as they come from outside. It must not panic.
pub type Target = fn(&[u8]);

/// The targets, each with its name.
pub const TARGETS: [(&str, Target); 8] = [
    ("component", component),
    ("sections", sections),
    ("values", values),
    ("replies", replies),
    ("journal", journal),
    ("records", records),
    ("references", references),
    ("files", files),
];

/// The plugins of the documentation's examples: `double` and `ask`.
mod plugins {
    include!("../../host/agenthost/doc/guests.rs");

    /// `demo:double`.
    pub(super) fn demo_double() -> Vec<u8> {
        double()
    }

    /// `demo:ask`.
    pub(super) fn demo_ask() -> Vec<u8> {
        ask()
    }
}

/// A host that is used by all inputs.
fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::builder().build().unwrap())
}

/// A directory that is used by all inputs, one after the other; in memory if the system has such a place.
fn scratch() -> &'static std::path::Path {
    static SCRATCH: OnceLock<tempfile::TempDir> = OnceLock::new();
    let memory = std::path::Path::new("/dev/shm");
    let dir = SCRATCH.get_or_init(|| match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    });
    dir.path()
}

/// The inputs that a target starts from, made by the host itself if it can: names and bytes.
pub fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "component" => vec![("double", plugins::demo_double()), ("ask", plugins::demo_ask())],
        "journal" => vec![("whole", journals::whole()), ("patched", vec![0, 1, 0, 32, 0, 0, 255])],
        _ => Vec::new(),
    }
}
