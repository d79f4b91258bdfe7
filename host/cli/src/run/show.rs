//! How the output of a run is shown.

use crate::spawn::Text;

/// How the output of a run is shown.
#[derive(Debug, Clone)]
pub(crate) enum Show {
    /// The whole report, as a JSON document.
    Document,
    /// The output, as JSON.
    Output,
    /// The output as text.
    Text(Text),
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
