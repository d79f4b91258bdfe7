//! The offline provider: the note on its answers, and the refusal where no person reads that note.

use super::budget::models_below;
use super::output::Printer;
use super::terminal::Stream;
use agenthost::config::{Config, OFFLINE_MODELS};
use agenthost::error::{Error, Result};
use agenthost::limits::Limits;
use agenthost::{Host, Plugin};

/// The note after a run that the offline provider answered.
pub(super) const OFFLINE: &str = "the offline provider made the answers up; set ANTHROPIC_API_KEY or OPENAI_API_KEY, or [models] \
                       in agenthost.toml, for real ones";

/// Prints [`OFFLINE`] after a run that the offline provider answered without `[models]`. With `--json`, only if the user
/// did not ask for it.
pub(super) fn note_offline(config: &Config, json: bool, printer: &Printer) {
    if config.is_offline_default() && (!json || is_unasked(config)) {
        printer.note(OFFLINE);
    }
}

/// Refuses a run of `plugin` within `limits` that the offline provider would answer, unless the user asked for that, a
/// terminal shows the note on it, or the output itself is on a terminal.
///
/// # Errors
///
/// Class `config`.
pub(super) fn refuse_unasked(host: &Host, plugin: &Plugin, limits: &Limits, printer: &Printer) -> Result<()> {
    let is_read = printer.moves() || Stream::Stdout.is_terminal();
    match is_read || !is_unasked(host.config()) || models_below(host.config(), plugin, limits).is_empty() {
        true => Ok(()),
        false => Err(
            Error::config("no key and no [models]: the offline provider would make the answers up").with_hint(format!(
                "Set ANTHROPIC_API_KEY or OPENAI_API_KEY, or write [models] in agenthost.toml. For made-up answers, add \
                 --offline-models or set {OFFLINE_MODELS}=1."
            )),
        ),
    }
}

fn is_unasked(config: &Config) -> bool {
    config.is_offline_default() && !config.asks_for_offline_models()
}
