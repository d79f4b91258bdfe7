//! Functions that generated code calls. Not for direct use, and without any promise of stability.

use serde::Deserialize as _;
use serde::de::Error as _;
use serde::{Deserializer, Serializer};

pub use futures_util::future;
pub use wit_bindgen;

#[cfg(not(target_family = "wasm"))]
pub use native::{
    complete, get, key, list, put, remaining, remove, report, spend_from, start, start_now, unscriptable,
};

/// Passes the shares in effect to the host, before the start of a sub-task.
pub fn before_sub_task() {
    crate::join::shares::before_sub_task();
}

/// The host's functions for a plugin's native tests, in which the test's own host answers.
#[cfg(not(target_family = "wasm"))]
mod native {
    use std::any::TypeId;

    use crate::bindings::agenthost::plugin::shares::Share;
    use crate::llm::{Allowance, Error, Reply, Request};
    use crate::memory;
    use crate::testing::World;

    /// Asks the scripted model.
    ///
    /// # Errors
    ///
    /// The scripted ones.
    pub async fn complete(request: Request) -> Result<Reply, Error> {
        World::current("agenthost:plugin/llm#complete").complete(request).await
    }

    /// The scripted rest of the limits.
    pub fn remaining() -> Allowance {
        World::current("agenthost:plugin/llm#remaining").remaining()
    }

    /// Notes the shares from which the sub-agents spend that are started from now on.
    pub fn spend_from(shares: &[Share]) {
        World::current("agenthost:plugin/shares#spend-from").spend_from(shares);
    }

    /// Returns a document of the test's host.
    ///
    /// # Errors
    ///
    /// As those of the memory.
    pub fn get(name: &str) -> Result<Option<String>, memory::Error> {
        World::current("agenthost:plugin/memory#get").document(name)
    }

    /// Writes a document of the test's host.
    ///
    /// # Errors
    ///
    /// As those of the memory.
    pub fn put(name: &str, json: &str) -> Result<(), memory::Error> {
        World::current("agenthost:plugin/memory#put").set_document(name, Some(json))
    }

    /// Removes a document of the test's host.
    ///
    /// # Errors
    ///
    /// As those of the memory.
    pub fn remove(name: &str) -> Result<(), memory::Error> {
        World::current("agenthost:plugin/memory#remove").set_document(name, None)
    }

    /// Returns the names of the documents of the test's host.
    ///
    /// # Errors
    ///
    /// As those of the memory.
    pub fn list(prefix: &str) -> Result<Vec<String>, memory::Error> {
        World::current("agenthost:plugin/memory#list").document_names(prefix)
    }

    /// Notes the task's progress.
    pub fn report(done: u32, total: Option<u32>, message: &str) {
        World::current("agenthost:plugin/progress#report").report(done, total, message);
    }

    /// The key under which the script of an imported function is kept.
    pub fn key<F: 'static>(run: &F) -> TypeId {
        crate::testing::key(run)
    }

    /// Runs the script of an imported function that is `async`.
    pub async fn start<I: Clone + 'static, O: 'static>(key: TypeId, plugin: &str, input: I) -> O {
        World::current(plugin).start(key, plugin, input).await
    }

    /// Runs the script of an imported function that is not `async`.
    pub fn start_now<I: Clone + 'static, O: 'static>(key: TypeId, plugin: &str, input: I) -> O {
        World::current(plugin).start_now(key, plugin, input)
    }

    /// Ends a call of a function that has no script.
    #[expect(clippy::panic, reason = "there is no value to go on with")]
    pub fn unscriptable(function: &str) -> ! {
        panic!("host functions exist only inside agenthost, and tests have no script for this one: {function}");
    }
}

/// Serializes flags as the list of the names that are set.
///
/// # Errors
///
/// Returns the serializer's error.
pub fn serialize_flags<S: Serializer>(serializer: S, flags: &[(&str, bool)]) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(flags.iter().filter(|(_, set)| *set).map(|(name, _)| name))
}

/// Deserializes flags from the list of their names.
///
/// # Errors
///
/// Returns an error for an unknown name, and the deserializer's error.
pub fn deserialize_flags<'de, D, F>(deserializer: D, flags: &[(&'static str, F)], none: F) -> Result<F, D::Error>
where
    D: Deserializer<'de>,
    F: Copy + std::ops::BitOr<Output = F>,
{
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().try_fold(none, |joined, name| {
        let flag = flags.iter().find(|(known, _)| known == name);
        let known = || flags.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        flag.map(|(_, flag)| joined | *flag)
            .ok_or_else(|| D::Error::custom(format_args!("unknown flag `{name}`, expected one of {}", known())))
    })
}

/// Implements serde's and schemars' traits for a flags type.
#[doc(hidden)]
#[macro_export]
macro_rules! __flags_json {
    ($ty:ident, $name:literal, $docs:literal, $($flag:ident = $flag_name:literal),* $(,)?) => {
        impl $crate::serde::Serialize for $ty {
            fn serialize<S: $crate::serde::Serializer>(&self, serializer: S) -> ::core::result::Result<S::Ok, S::Error> {
                $crate::__rt::serialize_flags(serializer, &[$(($flag_name, self.contains($ty::$flag))),*])
            }
        }
        impl<'de> $crate::serde::Deserialize<'de> for $ty {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                $crate::__rt::deserialize_flags(deserializer, &[$(($flag_name, $ty::$flag)),*], $ty::empty())
            }
        }
        impl $crate::schemars::JsonSchema for $ty {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                ::std::borrow::Cow::Borrowed(::core::stringify!($ty))
            }
            fn schema_id() -> ::std::borrow::Cow<'static, str> {
                ::std::borrow::Cow::Borrowed(::core::concat!(::core::module_path!(), "::", $name))
            }
            fn json_schema(_: &mut $crate::schemars::SchemaGenerator) -> $crate::schemars::Schema {
                let mut schema = $crate::schemars::json_schema!({
                    "type": "array",
                    "uniqueItems": true,
                    "items": { "type": "string", "enum": [$($flag_name),*] }
                });
                if !$docs.is_empty() {
                    schema.insert("description".to_owned(), $docs.into());
                }
                schema
            }
        }
    };
}
