//! The ways to ask a service for structured output, and the models that do not support the best one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use agenthost_core::llm::{ProviderError, ProviderErrorKind, ProviderSetting, Request};
use serde_json::Value;

use super::schema::{self, Dialect};

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
                any_object: false,
            };
        };
        let fitted = schema::fit(wanted, dialect).ok().filter(|_| form == Form::Schema);
        Self {
            system: match fitted {
                Some(_) => system,
                None => Some(schema::instruct(system.as_deref(), wanted)),
            },
            any_object: fitted.is_none() && form == Form::JsonObject,
            schema: fitted,
        }
    }
}

/// A provider's choice of forms.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    pub(crate) setting: StructuredOutput,
    /// The models that do not support [`Form::Schema`].
    refused: Mutex<BTreeSet<String>>,
}

impl Forms {
    pub(crate) fn of(&self, model: &str) -> Form {
        match self.setting {
            StructuredOutput::Auto if self.refused().contains(model) => Form::Prompt,
            StructuredOutput::Auto | StructuredOutput::Schema => Form::Schema,
            StructuredOutput::JsonObject => Form::JsonObject,
            StructuredOutput::Prompt => Form::Prompt,
        }
    }

    /// Remembers that the service refused the form of `request`. Without another form, the request is invalid.
    pub(crate) fn judge(&self, request: &Request, form: Form, mut error: ProviderError) -> ProviderError {
        if error.kind != ProviderErrorKind::FormatRefused {
            return error;
        }
        let other = self.setting == StructuredOutput::Auto && form == Form::Schema && request.schema.is_some();
        if other {
            self.refused().insert(request.model.clone());
            return error;
        }
        error.kind = ProviderErrorKind::InvalidRequest;
        error.setting = (form != Form::Prompt).then_some(ProviderSetting {
            key: "structured-output",
            value: Some("prompt"),
        });
        error
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
