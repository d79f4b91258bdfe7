//! A compiled and linked plugin: its call and its result.

use std::pin::pin;

use serde_json::Value;
use wasmtime::AsContextMut as _;
use wasmtime::component::{ComponentExportIndex, InstancePre, Type, Val};

use super::call::{End, Input, Returned};
use super::error::InvalidInput;
use super::fuel::FuelTank;
use super::store::StoreData;
use super::unseen::UnseenWork;
use crate::value;
use agenthost_core::failpoint;
use agenthost_core::limits::LimitKind;
use agenthost_plugin::types::{JsonText, JsonTexts, ValueError, ValueErrorKind};

/// The maximum number of bytes of a sample in a hint.
const MAX_SAMPLE_BYTES: usize = 2_000;

/// A plugin's code, compiled and linked.
pub struct Code {
    pub(super) pre: InstancePre<StoreData>,
    pub(super) run: ComponentExportIndex,
    pub(super) input: Type,
    pub(super) returns: Option<Type>,
    pub(super) error: ErrorShape,
    pub(super) json: JsonTexts,
    /// The work that its built-ins can do without the host seeing how much.
    pub(super) unseen: UnseenWork,
    /// The bytes that an instance holds beside its memories and tables.
    pub(super) instance_bytes: u64,
    /// `true` if it has more memories than a regular slot of the pool.
    pub(super) wide: bool,
}

/// The type of the `err` side of `run`'s result.
pub(super) enum ErrorShape {
    /// The contract's `failure`.
    Failure,
    /// A text.
    Text,
    /// A type of the plugin's own, or no type.
    Own,
}

impl Code {
    /// Starts an instance and calls its `run`, with fuel from the tank.
    pub(super) async fn call(
        &self,
        store: &mut wasmtime::Store<StoreData>,
        tank: &FuelTank,
        input: Val,
    ) -> wasmtime::Result<Option<Val>> {
        tank.poll(&mut *store)?;
        failpoint!(await "guest.instantiate");
        failpoint!("guest.instance", wasmtime::Error::new(super::EffectLost));
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let Some(run) = instance.get_func(&mut *store, self.run) else {
            return Err(wasmtime::Error::msg("the export `run` is gone"));
        };
        let results = usize::from(run.ty(&*store).results().len() > 0);
        let params = [input];
        let mut results = vec![Val::Bool(false); results];
        store
            .run_concurrent(async |accessor| {
                let mut call = pin!(run.call_concurrent(accessor, &params, &mut results));
                std::future::poll_fn(|cx| {
                    accessor.with(|mut access| tank.poll(access.as_context_mut()))?;
                    call.as_mut().poll(cx)
                })
                .await
            })
            .await??;
        Ok(results.pop())
    }

    /// Returns the result of `run` for a task that the host failed, in the plugin's own type: a case of `failure` or a
    /// text. `None` if the type cannot represent it.
    pub fn returned_failure(&self, case: &str, message: &str, limit: Option<LimitKind>) -> Option<Returned> {
        let text = || Box::new(Val::String(message.into()));
        let error = match self.error {
            ErrorShape::Own => return None,
            // The type is `json`.
            ErrorShape::Text if self.json.err.is_some() => Val::String(Value::from(message).to_string()),
            ErrorShape::Text => *text(),
            ErrorShape::Failure => {
                let payload = match (case, limit) {
                    ("exhausted", limit) => {
                        let limit = limit.unwrap_or(LimitKind::Other);
                        Some(Box::new(Val::Enum(limit.name().into())))
                    }
                    ("context-overflow" | "cancelled", _) => None,
                    ("failed" | "denied" | "model" | "trapped" | "escalated", _) => Some(text()),
                    _ => {
                        let pair = vec![Val::String(case.into()), *text()];
                        return Some(Returned(Val::Result(Err(Some(Box::new(Val::Variant(
                            "other".into(),
                            Some(Box::new(Val::Tuple(pair))),
                        )))))));
                    }
                };
                Val::Variant(case.into(), payload)
            }
        };
        Some(Returned(Val::Result(Err(Some(Box::new(error))))))
    }

    /// Converts JSON to an input of this plugin.
    pub fn input(&self, json: &Value) -> Result<Input, InvalidInput> {
        let texts = self.json.input.as_ref().map(|places| places.to_text(json.clone()));
        value::from_json(&self.input, texts.as_ref().unwrap_or(json), "input")
            .map(Input::new)
            .map_err(|problem| InvalidInput {
                problem,
                sample: self.sample_text(),
            })
    }

    /// Converts an input to JSON; `None` if JSON cannot represent it.
    pub fn input_json(&self, input: &Input) -> Option<Value> {
        // A refused input was never copied.
        match input.kept {
            Some(Err(_)) => None,
            _ => outside(self.json.input.as_ref(), &input.value, "input").ok(),
        }
    }

    /// Converts the value that `run` returned to JSON.
    pub fn returned_json(&self, returned: &Returned) -> Option<Value> {
        value::to_json(&returned.0, "returned").ok()
    }

    /// Converts the JSON of [`Code::returned_json`] back to the value that `run` returned.
    pub fn returned(&self, json: &Value) -> Option<Returned> {
        value::from_json(self.returns.as_ref()?, json, "returned")
            .ok()
            .map(Returned)
    }

    /// Returns a small input of the right type.
    pub fn sample(&self) -> Value {
        value::sample(&self.input)
    }

    /// Returns the beginning of the sample, for people.
    fn sample_text(&self) -> String {
        let mut text = self.sample().to_string();
        if text.len() > MAX_SAMPLE_BYTES {
            text.truncate(text.floor_char_boundary(MAX_SAMPLE_BYTES));
            text.push('…');
        }
        text
    }

    /// Returns the end of a task whose `run` returned this value. `Err` if the host cannot take the value over.
    pub(super) fn output(&self, returned: Option<&Val>) -> Result<End, End> {
        let json = |ty: Option<&Type>, places: &Option<JsonText>, val: Option<&Val>| match (ty, val) {
            (Some(_), Some(val)) => outside(places.as_ref(), val, "output").map_err(|error| {
                let message = format!("the output cannot be taken over: {error}");
                match error.kind() {
                    ValueErrorKind::Mismatch => End::Text(message),
                    ValueErrorKind::TooLarge | ValueErrorKind::Unsupported => End::Exhausted(LimitKind::Size, message),
                }
            }),
            _ => Ok(Value::Null),
        };
        let JsonTexts { ok, err, .. } = &self.json;
        match (&self.returns, returned) {
            (Some(Type::Result(ty)), Some(Val::Result(Ok(value)))) => {
                json(ty.ok().as_ref(), ok, value.as_deref()).map(End::Output)
            }
            (Some(Type::Result(ty)), Some(Val::Result(Err(error)))) => json(ty.err().as_ref(), err, error.as_deref())
                .map(|json| match (&self.error, json) {
                    (ErrorShape::Failure, json) => End::Failure(json),
                    (ErrorShape::Text, Value::String(text)) => End::Text(text),
                    (_, json) => End::Error(json),
                }),
            (ty, value) => json(ty.as_ref(), ok, value).map(End::Output),
        }
    }
}

/// Converts a value of a plugin to JSON for the outside.
fn outside(places: Option<&JsonText>, val: &Val, path: &str) -> Result<Value, ValueError> {
    let json = value::to_json(val, path)?;
    match places {
        Some(places) => places.to_value(json, path),
        None => Ok(json),
    }
}

impl ErrorShape {
    pub(super) fn of(ty: &Type) -> Self {
        let Type::Result(result) = ty else {
            return Self::Own;
        };
        match result.err() {
            Some(Type::String) => Self::Text,
            Some(Type::Variant(variant)) => {
                const CASES: [&str; 9] = [
                    "failed",
                    "exhausted",
                    "denied",
                    "model",
                    "context-overflow",
                    "trapped",
                    "cancelled",
                    "escalated",
                    "other",
                ];
                match variant.cases().map(|case| case.name).eq(CASES) {
                    true => Self::Failure,
                    false => Self::Own,
                }
            }
            _ => Self::Own,
        }
    }
}
