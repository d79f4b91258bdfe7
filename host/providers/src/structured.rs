//! The ways to ask a service for structured output, and the models that do not support the best one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use agenthost_core::llm::{ProviderError, ProviderErrorKind, Request};

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
        error
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
