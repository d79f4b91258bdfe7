//! `doctor --online`: one small request to each mapped model.

use std::collections::BTreeSet;

use super::super::table::thousands;
use super::check::{Check, CheckStatus, LimitReport, ProbeReport, Report};
use agenthost::config::ModelRef;
use agenthost::llm::{CallError, Quota, RateLimit};
use agenthost::{Host, ModelProbe, SchemaSupport};
use futures_util::future::join_all;

/// The name of these checks.
const NAME: &str = "online";

/// Sends one small request to each model that `host` maps and that a server serves, all of them at once.
pub(super) async fn probe(report: &mut Report, host: &Host) {
    let config = host.config();
    let mapped: BTreeSet<&ModelRef> = config.models().values().flatten().collect();
    let served = mapped.into_iter().filter(|model| {
        let provider = config.provider(&model.provider);
        provider.is_some_and(|provider| provider.kind.is_service())
    });
    let probes = served.map(async |model| (model, host.probe(model).await));
    let probes = join_all(probes).await;
    if probes.is_empty() {
        report.add(
            NAME,
            CheckStatus::Ok,
            "no model is mapped to a server; nothing was sent",
            None,
        );
    }
    let works: BTreeSet<_> = probes
        .iter()
        .filter_map(|(model, probed)| probed.is_ok().then_some(*model))
        .collect();
    for (model, probed) in probes {
        report.checks.push(match probed {
            Ok(probe) => answered(model, &probe),
            Err(error) => {
                // A failure only if no other model of a list can replace it.
                let mut lists = config.models().values().filter(|list| list.contains(model));
                let is_replaced = lists.all(|list| list.iter().any(|other| works.contains(other)));
                let is_open = config.key(&model.provider).is_ok();
                failed(model, &error, is_replaced, is_open)
            }
        });
    }
}

fn answered(model: &ModelRef, probe: &ModelProbe) -> Check {
    let (state, schema, hint) = match &probe.schema {
        SchemaSupport::InPrompt => (
            CheckStatus::Ok,
            "takes a JSON Schema in the prompt only".to_owned(),
            Some(format!(
                "structured-output = \"prompt\" in [providers.{}] saves the first request of each host.",
                model.provider
            )),
        ),
        SchemaSupport::Violated { why } => (
            CheckStatus::Warn,
            format!("its reply violates the JSON Schema: {why}"),
            Some("Typed outputs will need repairs or fail; map the name to another model.".to_owned()),
        ),
        _ => (CheckStatus::Ok, "takes a JSON Schema".to_owned(), None),
    };
    let usage = match probe.usage {
        Some(usage) => format!(
            "{} tokens in, {} out",
            thousands(&usage.input.to_string()),
            thousands(&usage.output.to_string())
        ),
        None => "reports no token counts".to_owned(),
    };
    let cost = probe.cost.map(|cost| format!(", {cost}")).unwrap_or_default();
    let limits: Vec<_> = limits(probe.quota.as_deref())
        .map(|(of, limit)| {
            format!(
                "{} of {} {of}",
                thousands(&limit.remaining.to_string()),
                thousands(&limit.limit.to_string())
            )
        })
        .collect();
    let limits = match limits.as_slice() {
        [] => "no rate limits in its headers".to_owned(),
        limits => format!("{} left", limits.join(", ")),
    };
    Check {
        state,
        hint,
        probe: Some(document(model, probe)),
        ..Check::new(
            NAME,
            format!(
                "{model}: {} answered in {} ms; {schema}; {usage}{cost}; {limits}",
                probe.service,
                thousands(&probe.latency.as_millis().to_string())
            ),
        )
    }
}

/// `is_replaced` is whether another model takes its place; `is_open` is whether the provider has all that a request needs.
fn failed(model: &ModelRef, error: &CallError, is_replaced: bool, is_open: bool) -> Check {
    let section = format!("[providers.{}]", model.provider);
    let hint = match error {
        // The error has its own hint.
        CallError::Unavailable(_) if !is_open => None,
        CallError::Unavailable(_) => Some(format!("Check `base-url` in {section}, and that the server runs.")),
        CallError::Other(class, _) => match class.as_str() {
            // The message of a wrong key names what to check.
            "permission" => Some(format!("Check what the key of {section} may use.")),
            "not-found" => Some(format!("Check the model's name, and `base-url` in {section}.")),
            _ => None,
        },
        _ => None,
    };
    let mut found = error.to_string();
    // Most errors name it.
    if !found.contains(&model.to_string()) {
        found = format!("{model}: {found}");
    }
    Check {
        state: if is_replaced {
            CheckStatus::Warn
        } else {
            CheckStatus::Fail
        },
        hint,
        ..Check::new(NAME, found)
    }
}

fn document(model: &ModelRef, probe: &ModelProbe) -> ProbeReport {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    ProbeReport {
        model: model.to_string(),
        service: probe.service.clone(),
        served: probe.served.clone(),
        latency_ms: millis(probe.latency),
        schema: match probe.schema {
            SchemaSupport::Violated { .. } => "violated",
            SchemaSupport::InPrompt => "in-prompt",
            _ => "satisfied",
        },
        input_tokens: probe.usage.map(|usage| usage.input),
        output_tokens: probe.usage.map(|usage| usage.output),
        cost_usd: probe.cost.map(|cost| cost.to_string()),
        limits: limits(probe.quota.as_deref())
            .map(|(of, limit)| LimitReport {
                of,
                limit: limit.limit,
                remaining: limit.remaining,
                reset_ms: limit.reset.map(millis),
            })
            .collect(),
    }
}

/// Returns the limits in the headers of a reply, each with the unit.
fn limits(quota: Option<&Quota>) -> impl Iterator<Item = (&'static str, RateLimit)> {
    let quota = quota.cloned().unwrap_or_default();
    let limits = [
        ("requests", quota.requests),
        ("tokens", quota.tokens),
        ("input tokens", quota.input_tokens),
        ("output tokens", quota.output_tokens),
    ];
    limits.into_iter().filter_map(|(of, limit)| Some((of, limit?)))
}
