//! How the output of a run is shown.

use serde_json::Value;

/// How the output of a run is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Show {
    /// The whole report, as a JSON document.
    Document,
    /// The output, as JSON.
    Output,
    /// The output as text.
    Text(fn(&Value) -> String),
}

impl Show {
    /// The document, or else the output.
    pub(crate) fn of(json: bool) -> Self {
        match json {
            true => Self::Document,
            false => Self::Output,
        }
    }
}
