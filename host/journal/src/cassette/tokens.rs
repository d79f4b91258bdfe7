//! Token counts in the form of a cassette: zeros are left out, and unknown fields are refused.

use agenthost_core::llm::Usage;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The fields of [`Usage`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Usage", rename_all = "kebab-case", deny_unknown_fields)]
struct Counts {
    #[serde(default, skip_serializing_if = "is_zero")]
    input: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    cached_input: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    cache_write_input: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    output: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    reasoning_output: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    searches: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Tokens(#[serde(with = "Counts")] Usage);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
pub(super) fn serialize<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
    usage.map(Tokens).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usage>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(|Tokens(usage)| usage))
}
