//! An upper bound of the input tokens of a request, before any provider has counted them.
//!
//! A plugin chooses what it sends, so an average over earlier requests is not a bound: easy text would lower it for
//! dense text that follows. This bound is computed from the text itself, see [`vocabulary`], and counts from the
//! providers can only raise it. It never exceeds the number of bytes, because no tokenizer makes more tokens than that.
//! Some tokenizers normalize a text first, which can make eleven times as many bytes of it, so a text counts in the
//! longest of its forms.

mod vocabulary;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agenthost_core::llm::{Extension, Part, Request};
use agenthost_providers::schema::{Dialect, fit, instruct};
use icu_normalizer::ComposingNormalizer;
use serde_json::Value;

use crate::price::{SEARCH_TOKENS, vendor};

/// The tokens of a request that are in none of its texts: markers of roles, and additions of a vendor for a schema.
const TOKENS_PER_REQUEST: u64 = 64;
const TOKENS_PER_MESSAGE: u64 = 8;
/// The least tokens for a part that is not text. Its size means little: an empty image of a few hundred bytes costs as
/// much as any other of its width and height. The value leaves room above the cost of a large image.
const TOKENS_PER_MEDIA: u64 = 5_000;
/// The margin on a count that was above the bound, as the next text may be denser.
const MARGIN: f64 = 1.1;
/// Shorter requests are mostly overhead and give no reliable ratio.
const MIN_LESSON_BYTES: u64 = 512;
/// Longer texts are counted on a thread of their own.
const LONG_BYTES: u64 = 64 * 1024;
/// The size of the chunks in which texts are normalized and counted, which bounds the memory for it.
const CHUNK_BYTES: usize = 16 * 1024;
/// The tokens that a word or a character that is cut between two chunks can hide.
const TOKENS_PER_CUT: u64 = 8;
/// The most bytes that NFKC makes of one byte: U+FDFA has three, and represents a phrase of 33.
const NORMALIZED_GROWTH: u64 = 11;
/// The tokens of the instructions that a vendor adds if a request has tools. Anthropic's documentation of tool use gives
/// some hundreds for each of its models; the value leaves room.
const TOKENS_FOR_TOOLS: u64 = 600;
const TOKENS_PER_TOOL: u64 = 24;
/// The highest estimate of the tokens that one search adds, so that a few searches still fit a task's default limit.
const MOST_TOKENS_PER_USE: u64 = 30_000;
/// Anthropic publishes no vocabulary of its newer models. According to its documentation of token counting, they make
/// about 30 percent more tokens of the same text than earlier ones, depending on the text; the rest is margin.
const ANTHROPIC_FACTOR: f64 = 1.35;

/// The parts of a request that make input tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InputSize {
    /// The UTF-8 bytes of all texts, in the longest of their forms.
    bytes: u64,
    /// The most tokens of these texts, by their characters.
    texts: u64,
    /// The most tokens of everything that is not text.
    media: u64,
    messages: u64,
    /// The tokens that a vendor adds for tools.
    tools: u64,
}

impl InputSize {
    /// Measures `request`, as it is sent to a provider of `kind`.
    pub(super) fn of(request: &Request, kind: &str) -> Self {
        let mut size = Self {
            bytes: 0,
            texts: 0,
            media: 0,
            messages: request.messages.len() as u64,
            tools: 0,
        };
        size.add(request.system.as_deref().unwrap_or_default());
        for part in request.messages.iter().flat_map(|message| &message.content) {
            match part {
                Part::Text(text) => size.add(text),
                Part::Extension { json, .. } => size.add_extension(part, json, kind, &request.model),
                Part::Media { data, .. } => size.media += TOKENS_PER_MEDIA.max(data.len() as u64),
            }
        }
        if let Some(schema) = &request.schema {
            size.add_longest(schema_forms(schema, kind));
        }
        let options = &request.options;
        for tool in &options.tools {
            size.add(&tool.name);
            size.add(&tool.description);
            size.add_longest(schema_forms(&tool.parameters, kind));
        }
        if options.keeps_blocks() {
            let tools = (options.tools.len() + options.server_tools.len()) as u64;
            size.tools = TOKENS_FOR_TOOLS + TOKENS_PER_TOOL * tools;
        }
        if may_serve_anthropic(kind, &request.model) {
            size.texts = (size.texts as f64 * ANTHROPIC_FACTOR).ceil() as u64;
        }
        size
    }

    /// Like [`InputSize::of`], on a blocking thread if the texts are long.
    pub(super) async fn measure(request: &Request, kind: &'static str) -> Self {
        if request.bytes() <= LONG_BYTES {
            return Self::of(request, kind);
        }
        let request = request.clone();
        let (bytes, messages) = (request.bytes(), request.messages.len() as u64);
        let tools = (request.options.tools.len() + request.options.server_tools.len()) as u64;
        let bytes = bytes.saturating_mul(NORMALIZED_GROWTH);
        let measured = tokio::task::spawn_blocking(move || Self::of(&request, kind)).await;
        measured.unwrap_or(Self {
            bytes,
            texts: bytes,
            media: 0,
            messages,
            tools: TOKENS_FOR_TOOLS + TOKENS_PER_TOOL * tools,
        })
    }

    fn add(&mut self, mut text: &str) {
        while !text.is_empty() {
            let (chunk, rest) = text.split_at(text.floor_char_boundary(CHUNK_BYTES));
            let (mut bytes, mut tokens) = (chunk.len(), vocabulary::most_tokens(chunk));
            for normalized in normal_forms(chunk) {
                bytes = bytes.max(normalized.len());
                tokens = tokens.max(vocabulary::most_tokens(&normalized));
            }
            let cut = if rest.is_empty() { 0 } else { TOKENS_PER_CUT };
            self.bytes += bytes as u64;
            self.texts += tokens + cut;
            text = rest;
        }
    }

    /// Adds what a wire sends of an extension.
    fn add_extension(&mut self, part: &Part, json: &str, kind: &str, model: &str) {
        let extension = match Extension::of(part) {
            Some(Ok(extension)) => extension,
            _ => return self.add(json),
        };
        if let Some(echo) = extension.echo().filter(|echo| echo.fits(kind, model)) {
            let block = echo.block.to_string();
            let is_result = echo
                .block
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.ends_with("_result"));
            let mut with = *self;
            with.add(&block);
            if is_result {
                // The pages are encrypted: the text says little about what the model reads.
                with.texts = with.texts.min(self.texts + SEARCH_TOKENS);
                with.bytes = with.bytes.min(self.bytes + SEARCH_TOKENS);
            }
            *self = with;
            return;
        }
        match extension {
            Extension::ToolCall(call) => {
                self.add(&call.name);
                self.add(&call.arguments.text());
            }
            Extension::ToolResult(result) => self.add(&result.content),
            // No wire sends these.
            _ => {}
        }
    }

    /// Adds the longest of several forms of one text.
    fn add_longest(&mut self, forms: impl Iterator<Item = String>) {
        let (mut bytes, mut texts) = (self.bytes, self.texts);
        for form in forms {
            let mut with = *self;
            with.add(&form);
            bytes = bytes.max(with.bytes);
            texts = texts.max(with.texts);
        }
        (self.bytes, self.texts) = (bytes, texts);
    }

    fn overhead(&self) -> u64 {
        TOKENS_PER_REQUEST
            .saturating_add(TOKENS_PER_MESSAGE.saturating_mul(self.messages))
            .saturating_add(self.media)
            .saturating_add(self.tools)
    }
}

/// Returns the forms in which a provider of `kind` may send `schema`: as a parameter, in which names occur twice and types
/// are written out, or as a part of the system text, if the service refuses the parameter.
fn schema_forms<'a>(schema: &'a Value, kind: &'a str) -> impl Iterator<Item = String> + 'a {
    let dialects = [("anthropic", Dialect::Anthropic), ("openai", Dialect::OpenAi)];
    let sent = dialects.into_iter().filter(move |(name, _)| match vendor(kind) {
        vendor @ ("anthropic" | "openai") => *name == vendor,
        _ => true,
    });
    let fitted = sent.filter_map(|(_, dialect)| fit(schema, dialect).ok());
    fitted
        .map(|fitted| fitted.to_string())
        .chain(std::iter::once_with(|| instruct(None, schema)))
}

/// Returns whether a provider of `kind` may serve a model of Anthropic as `model`. A gateway with OpenAI's API keeps the
/// name of the family in the name of the model. An implementation of a kind of its own can serve any model.
fn may_serve_anthropic(kind: &str, model: &str) -> bool {
    match vendor(kind) {
        "offline" | "script" => false,
        "openai" => model.to_ascii_lowercase().contains("claude"),
        _ => true,
    }
}

/// Returns the normal forms of a text that a tokenizer may count, if they differ from the text. NFC can be longer than
/// NFKC if both change the text.
fn normal_forms(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let normalizers = [ComposingNormalizer::new_nfc(), ComposingNormalizer::new_nfkc()];
    let forms = normalizers.into_iter().map(|normalizer| normalizer.normalize(text));
    forms.filter(|form| matches!(form, Cow::Owned(_)))
}

/// The counts of each model that were ever above the bound.
#[derive(Default)]
pub(super) struct Estimates(Mutex<HashMap<String, Learned>>);

/// The lessons of one model's counts.
#[derive(Clone, Copy)]
struct Learned {
    /// The highest ratio of a count to the bound.
    factor: f64,
    /// The most input tokens that one use of a tool of the provider added.
    tokens_per_use: u64,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            factor: 1.0,
            tokens_per_use: 0,
        }
    }
}

impl Estimates {
    /// Returns the most input tokens of a request to `model`; with `strict`, a token for each byte.
    pub(super) fn input(&self, model: &str, size: &InputSize, strict: bool) -> u64 {
        if strict {
            return size.bytes.saturating_add(size.overhead());
        }
        let factor = self.lock().get(model).copied().unwrap_or_default().factor;
        let texts = (size.texts as f64 * factor).ceil() as u64;
        texts.min(size.bytes).saturating_add(size.overhead())
    }

    /// Returns the most input tokens that a use of a tool of the provider is known to add; 0 if none was counted.
    pub(super) fn tokens_per_use(&self, model: &str) -> u64 {
        self.lock().get(model).copied().unwrap_or_default().tokens_per_use
    }

    /// Learns from the count of a reply if it is above the bound: a model that makes more tokens of a text than
    /// expected keeps a higher bound for the life of the host.
    pub(super) fn learn(&self, model: &str, size: &InputSize, counted: u64) {
        if size.bytes < MIN_LESSON_BYTES || size.media > 0 || counted <= self.input(model, size, false) {
            return;
        }
        let text = counted.saturating_sub(TOKENS_PER_MESSAGE.saturating_mul(size.messages));
        let seen = text as f64 / size.texts.max(1) as f64 * MARGIN;
        let mut models = self.lock();
        let learned = models.entry(model.to_owned()).or_default();
        learned.factor = learned.factor.max(seen);
    }

    /// Learns from the count of a reply for which the provider used tools `uses` times, and which is above what was
    /// reserved: the pages are part of the count.
    pub(super) fn learn_uses(&self, model: &str, size: &InputSize, counted: u64, uses: u64) {
        let prompt = self.input(model, size, false).saturating_mul(uses.saturating_add(1));
        let Some(each) = counted.saturating_sub(prompt).checked_div(uses) else {
            return;
        };
        let each = ((each as f64 * MARGIN).ceil() as u64).min(MOST_TOKENS_PER_USE);
        let mut models = self.lock();
        let learned = models.entry(model.to_owned()).or_default();
        learned.tokens_per_use = learned.tokens_per_use.max(each);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Learned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::llm::{Message, Options, Role};

    fn size(text: &str, kind: &str) -> InputSize {
        InputSize::of(&request(vec![Part::Text(text.into())]), kind)
    }

    fn request(content: Vec<Part>) -> Request {
        Request {
            model: "m".into(),
            system: None,
            messages: vec![Message {
                role: Role::User,
                content,
            }],
            max_tokens: 10,
            schema: None,
            options: Options::default(),
            mark_prefix: None,
        }
    }

    const ENGLISH: &str =
        "The host reserves the worst case of a request before it is sent, and settles it when the reply is there. ";

    #[test]
    fn easy_text_never_lowers_the_bound_for_dense_text() {
        let estimates = Estimates::default();
        let (easy, dense) = (size(&ENGLISH.repeat(40), "openai"), size(&"xQ".repeat(2_000), "openai"));
        assert_eq!(dense.texts, 4_000, "each letter may be a token");
        assert!(easy.texts * 3 < easy.bytes, "{easy:?}");
        let before = (estimates.input("m", &easy, false), estimates.input("m", &dense, false));
        for _ in 0..100 {
            estimates.learn("m", &easy, easy.texts / 2);
        }
        assert_eq!(
            (estimates.input("m", &easy, false), estimates.input("m", &dense, false)),
            before
        );
    }

    #[test]
    fn a_count_above_the_bound_raises_it_at_once_and_for_good_up_to_the_bytes() {
        let estimates = Estimates::default();
        let size = size(&ENGLISH.repeat(40), "openai");
        let counted = size.texts * 2;
        estimates.learn("m", &size, counted);
        let raised = estimates.input("m", &size, false);
        assert!(raised > counted, "{raised} {counted}");
        estimates.learn("m", &size, 10);
        assert_eq!(estimates.input("m", &size, false), raised);
        assert!(estimates.input("other", &size, false) < counted);
        estimates.learn("m", &size, u64::MAX / 2);
        assert_eq!(estimates.input("m", &size, false), estimates.input("m", &size, true));
    }

    /// The published tokenizer of Anthropic normalizes with NFKC, that of Qwen with NFC.
    #[test]
    fn a_text_counts_in_the_longest_of_its_normal_forms() {
        // Each character, and its bytes in the longest form.
        for (text, bytes) in [
            ("\u{fdfa}", 33),
            ("\u{1d160}", 12),
            ("\u{2037}", 9),
            ("\u{ff21}", 3),
            ("a", 1),
        ] {
            let size = size(&text.repeat(1_000), "openai");
            assert_eq!(size.bytes, bytes * 1_000, "{text}");
            assert!(bytes < 9 || size.texts > 1_000 * text.len() as u64, "{text}: {size:?}");
        }
    }

    #[test]
    fn a_long_text_counts_as_its_chunks_do() {
        let long = "é the word ".repeat(10_000);
        let (long, short) = (size(&long, "openai"), size(&long[..12_000], "openai"));
        assert!(long.texts >= short.texts * 10 && long.texts <= short.texts * 10 + 10 * TOKENS_PER_CUT);
        assert_eq!(long.bytes, 120_000);
    }

    #[test]
    fn a_small_image_is_not_counted_by_its_bytes_alone() {
        let media = |bytes| {
            let size = InputSize::of(
                &request(vec![Part::Media {
                    mime: "image/png".into(),
                    data: vec![0; bytes],
                }]),
                "openai",
            );
            Estimates::default().input("m", &size, false)
        };
        assert_eq!(media(100), media(4_000));
        assert!(media(100) > 4_784 && media(100_000) > 100_000);
    }

    #[test]
    fn a_schema_counts_in_the_longest_form_that_the_provider_may_send() {
        let schema = serde_json::json!({"type": "object", "properties": {"some-name": {"type": "string"}}});
        let mut with_schema = request(Vec::new());
        with_schema.schema = Some(schema.clone());
        for (kind, dialects) in [
            ("openai", &[Dialect::OpenAi][..]),
            ("anthropic", &[Dialect::Anthropic]),
            ("custom", &[Dialect::OpenAi, Dialect::Anthropic]),
        ] {
            let measured = InputSize::of(&with_schema, kind);
            let fitted = dialects
                .iter()
                .map(|dialect| fit(&schema, *dialect).unwrap().to_string());
            for form in fitted.chain([instruct(None, &schema)]) {
                let mut as_text = request(Vec::new());
                as_text.system = Some(form);
                let sent = InputSize::of(&as_text, kind);
                assert!(
                    measured.bytes >= sent.bytes && measured.texts >= sent.texts,
                    "{kind}: {sent:?}"
                );
            }
        }
    }

    #[test]
    fn a_provider_whose_models_are_not_known_has_the_highest_bound() {
        let (custom, anthropic, openai) = (
            size(ENGLISH, "custom"),
            size(ENGLISH, "anthropic"),
            size(ENGLISH, "openai"),
        );
        assert_eq!(custom, anthropic);
        assert!(custom.texts > openai.texts);
        let mut passed_on = request(vec![Part::Text(ENGLISH.into())]);
        passed_on.model = "anthropic/claude-sonnet-4.5".into();
        assert_eq!(InputSize::of(&passed_on, "openai"), anthropic);
    }
}
