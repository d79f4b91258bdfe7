//! The values of options that are JSON.

use serde::de::DeserializeOwned;

/// Reads the JSON value of an option.
pub(super) fn read_json<T: DeserializeOwned>(name: &str, form: &str, value: &str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|error| format!("option `{name}` is not {form}: {error}"))
}
