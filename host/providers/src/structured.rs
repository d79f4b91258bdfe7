//! The ways to ask a service for structured output.

use agenthost_core::llm::Request;
use serde_json::Value;

use super::schema::{self, Dialect, Scarce};

/// The way in which a provider asks for structured output. In each, the host validates the reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StructuredOutput {
    /// With the schema as a parameter; for a model of which the service has refused that, in the system text.
    #[default]
    Auto,
    /// With the schema as a parameter.
    Schema,
    /// With a parameter that asks for any JSON object, and with the schema in the system text.
    JsonObject,
    /// With the schema in the system text.
    Prompt,
}

impl StructuredOutput {
    /// Returns the form of a request to a model; `is_refused` if the service has refused [`Form::Schema`] for it.
    pub(crate) fn form(self, is_refused: bool) -> Form {
        match self {
            Self::Auto if is_refused => Form::Prompt,
            Self::Auto | Self::Schema => Form::Schema,
            Self::JsonObject => Form::JsonObject,
            Self::Prompt => Form::Prompt,
        }
    }
}

/// The form of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Schema,
    JsonObject,
    Prompt,
}

/// The system text of a request, and the form in which it asks for structured output.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The system text, with the schema if it is asked for in words.
    pub(crate) system: Option<String>,
    /// The schema to send as a parameter.
    pub(crate) schema: Option<Value>,
    /// The scarce parts of that schema.
    pub(crate) scarce: Scarce,
    /// `true` to ask for any JSON object by a parameter.
    pub(crate) any_object: bool,
}

impl Asked {
    /// Returns what `request` asks for in `form`. A schema that the vendor's rules cannot express is asked for in words.
    pub(crate) fn of(request: &Request, form: Form, dialect: Dialect) -> Self {
        let system = request.system.clone();
        let Some(wanted) = &request.schema else {
            return Self {
                system,
                schema: None,
                scarce: Scarce::default(),
                any_object: false,
            };
        };
        let fitted = schema::fit_counted(wanted, dialect).ok();
        let fitted = fitted.filter(|_| form == Form::Schema);
        Self {
            system: match fitted {
                Some(_) => system,
                None => Some(schema::instruct(system.as_deref(), wanted)),
            },
            any_object: fitted.is_none() && form == Form::JsonObject,
            scarce: fitted.as_ref().map(|fitted| fitted.scarce).unwrap_or_default(),
            schema: fitted.map(|fitted| fitted.schema),
        }
    }
}
