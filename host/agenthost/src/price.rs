//! The prices of model calls.
//!
//! Money is counted in whole pico-dollars, so that sums over any number of calls are exact: one token at 0.10 USD per
//! million is 100,000 of them. Prices are read from their decimal text and never pass through a float. The embedded
//! table ([`PriceTable::builtin`]) is dated and holds the vendors' list prices; discounts, taxes and service tiers are
//! left out. A provider's count does not include how long it keeps a cache entry; the request does, so the sender
//! chooses between a [`Price`] and [`Price::with_hour_writes`].

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error as _};

use agenthost_config::{Address, Config, ModelRef, PriceConfig, ProviderConfig, RatesConfig, SetBy};
use agenthost_core::error::Error;
use agenthost_core::limits::Usd;
use agenthost_core::llm::Usage;

/// The text of the embedded table.
const BUILTIN: &str = include_str!("prices.toml");

/// The prices of all known models.
///
/// ```
/// use agenthost::llm::Usage;
/// use agenthost::price::PriceTable;
///
/// let table = PriceTable::builtin();
/// let price = table.price("anthropic", "anthropic", "claude-haiku-5-5").ok_or("it is in the table")?;
/// let call = Usage { input: 10_000, output: 500, ..Usage::default() };
/// assert!(price.cost(&call) <= price.worst(10_000, 500));
/// assert!(price.worst(10_000, 500) <= price.most(10_500));
/// assert_eq!(table.price("anthropic", "anthropic", "no-such-model"), None);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    as_of: String,
    /// By vendor, then model id.
    builtin: BTreeMap<String, BTreeMap<String, Price>>,
    /// By `provider/model`, with the operator's name of the provider.
    overrides: BTreeMap<String, Price>,
    free: Price,
    /// Notes about prices of a project's file that have no effect.
    notes: Vec<String>,
}

impl PriceTable {
    /// Returns the table that is embedded in this build.
    pub fn builtin() -> Self {
        // A test reads the embedded text. If it could not be read, no model would have a price, which leads to refusals
        // rather than to wrong sums.
        Self::parse(BUILTIN).unwrap_or_default()
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let File { as_of, kinds } = toml::from_str(text)?;
        Ok(Self {
            as_of,
            builtin: kinds,
            ..Self::default()
        })
    }

    /// Returns the embedded table, overridden by the operator's own prices. A price of a project's file applies only as
    /// far as it is not below the price in the operator's own file or in the table: the author of a project must not
    /// make a limit on cost last longer.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use agenthost::config::{Config, Env};
    /// use agenthost::price::PriceTable;
    ///
    /// std::fs::write(dir.path().join("agenthost.toml"), "[prices.'corp/small']\ninput = 0.10\noutput = 0.50\n")?;
    /// let config = Config::load(&Env::new([].into(), dir.path(), None))?;
    /// let table = PriceTable::of(&config)?;
    /// let price = table.price("openai", "corp", "small").ok_or("it was given")?;
    /// // Writing to the cache costs a quarter more than plain input, and in the worst case all input is written to it.
    /// assert_eq!(price.worst(1_000_000, 1_000_000).to_string(), "$0.625");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Class `config`, with file and line, for a price that [`Price::custom`] rejects.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let custom = |model: &ModelRef, price: &PriceConfig| {
            Price::custom(price).map_err(|error| {
                let origin = config
                    .origin(&format!("prices.{model}"))
                    .map(|origin| format!("{origin}: "))
                    .unwrap_or_default();
                Error::config(format!("{origin}[prices.\"{model}\"]: {error}"))
                    .with_hint("Give USD per million tokens, such as `input = 0.10` and `output = 0.50`.")
            })
        };
        let mut table = Self::builtin();
        let mut floors = BTreeMap::new();
        for (model, price) in config.price_floors() {
            floors.insert(model.to_string(), custom(model, price)?);
        }
        let mut own = Vec::new();
        for (model, price) in config.prices() {
            let entry = format!("prices.{model}");
            let mut price = custom(model, price)?;
            if let Some(provider) = config
                .provider(&model.provider)
                .filter(|_| config.is_by_project(&entry))
            {
                let floor = find(&floors, &model.to_string()).cloned();
                let floor = floor.or_else(|| table.least(config, provider, &model.model));
                let held = floor.map_or_else(|| price.clone(), |floor| price.at_least(&floor));
                if held != price {
                    table.notes.push(format!(
                        "{}[prices.\"{model}\"] does not lower the price that is known; your own configuration can",
                        config
                            .origin(&entry)
                            .map(|origin| format!("{origin}: "))
                            .unwrap_or_default()
                    ));
                }
                price = held;
            }
            own.push((model.to_string(), price));
        }
        table.with_overrides(own)
    }

    /// Returns the lowest price that a project's file can set for a model. A model that is not in the table may be
    /// another name of one that is, if the operator pays for it: at any address except one that the project's file
    /// sets.
    fn least(&self, config: &Config, provider: &ProviderConfig, model: &str) -> Option<Price> {
        let known = self.builtin.get(vendor(provider.kind.name()))?;
        let by_operator = |address: &Address| match &address.set_by {
            SetBy::Vendor | SetBy::Variable(_) => true,
            SetBy::File(origin) => config.user_file() == Some(origin.file()),
        };
        let is_paid = provider.address.as_ref().is_some_and(by_operator);
        let dearest = || {
            let all = known.values().cloned();
            all.reduce(|dearest, price| dearest.at_least(&price))
                .filter(|_| is_paid)
        };
        find(known, model).cloned().or_else(dearest)
    }

    /// Returns human-readable notes about settings of a project's file that have no effect.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the day on which the embedded prices were read, as `2026-11-23`.
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// Adds the operator's own prices, by `provider/model`. They take precedence over the table.
    ///
    /// # Errors
    ///
    /// Class `config` for a key that is not of the form `provider/model`.
    pub fn with_overrides(mut self, overrides: impl IntoIterator<Item = (String, Price)>) -> Result<Self, Error> {
        for (key, price) in overrides {
            if !key
                .split_once('/')
                .is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty())
            {
                return Err(
                    Error::config(format!("prices.{key:?} is not a provider/model")).with_hint(
                        "Write the provider's name and the model's id, as in [prices.\"anthropic/claude-haiku-5-5\"].",
                    ),
                );
            }
            self.overrides.insert(key, price);
        }
        Ok(self)
    }

    /// Returns the price of `model` at the provider with the operator's name `provider_name`, whose kind is `kind`;
    /// `None` if it is not known. A dated id (`claude-haiku-5-5-20261001`) has the price of the id without the date
    /// unless it has one of its own. Replies of the `offline` kind cost nothing.
    pub fn price(&self, kind: &str, provider_name: &str, model: &str) -> Option<&Price> {
        let own = format!("{provider_name}/{model}");
        find(&self.overrides, &own)
            .or_else(|| find(self.builtin.get(vendor(kind))?, model))
            .or_else(|| (kind == "offline").then_some(&self.free))
    }
}

/// Returns the vendor in the table that serves the models of a kind of provider: both of OpenAI's wires serve the same
/// models at the same prices.
pub(crate) fn vendor(kind: &str) -> &str {
    match kind {
        "openai-responses" => "openai",
        kind => kind,
    }
}

/// Returns the exact entry, else the one for the id without its date.
fn find<'a>(prices: &'a BTreeMap<String, Price>, id: &str) -> Option<&'a Price> {
    prices.get(id).or_else(|| prices.get(undated(id)?))
}

/// Removes the date at the end of `id`. Any other ending may mean another model at another price: `gpt-6-luna-pro` is
/// not `gpt-6-luna`.
fn undated(id: &str) -> Option<&str> {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, last) = id.rsplit_once('-')?;
    if digits(last, 8) || last == "latest" {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-').filter(|_| digits(last, 2))?;
    let (rest, year) = rest.rsplit_once('-').filter(|_| digits(month, 2))?;
    digits(year, 4).then_some(rest)
}

/// The price of a search at both vendors in the table, in USD.
const SEARCH: &str = "0.01";
/// The input tokens that are reserved for a search or a page, unless the price says otherwise.
pub(crate) const SEARCH_TOKENS: u64 = 10_000;

/// The prices of one model's tokens, and of searches.
///
/// It is read from a table with `input` and `output`, and optionally `cache-read` (default: `input`), `cache-write`
/// (default: 1.25 times `input`), `cache-write-1h` (default: twice `input`) and `long-context` with `above` and the
/// same five. All are in USD per million tokens, as a number or a string, with at most six decimals. `search` is the price
/// of one search by the provider in USD (default: 0.01), and `search-tokens` the input tokens to reserve for one (default:
/// 10,000).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    long_context: Option<(u64, Rates)>,
    /// Of one search.
    search: Usd,
    /// The input tokens to reserve for one search or page.
    search_tokens: u64,
    source: Option<String>,
}

/// Pico-dollars per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rates {
    input: u64,
    output: u64,
    cache_read: u64,
    /// For five minutes.
    cache_write: u64,
    /// For an hour.
    cache_write_1h: u64,
}

impl Price {
    /// Creates a price of the operator's own, in USD per million tokens.
    ///
    /// ```
    /// use agenthost::config::{PriceConfig, RatesConfig};
    /// use agenthost::price::Price;
    ///
    /// let rates = RatesConfig { input: Some("2".parse()?), output: Some("8".parse()?), ..RatesConfig::default() };
    /// let price = Price::custom(&PriceConfig { rates, ..PriceConfig::default() })?;
    /// assert_eq!(price.most(1_000_000).to_string(), "$8.00"); // all of it output
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A description of the fault: input or output missing, or more than six decimals.
    pub fn custom(price: &PriceConfig) -> Result<Self, String> {
        let step = |(above, rates): &(u64, RatesConfig)| Ok::<_, String>((*above, Rates::custom(rates)?));
        Ok(Self {
            rates: Rates::custom(&price.rates)?,
            long_context: price
                .long_context
                .as_ref()
                .map(step)
                .transpose()
                .map_err(|error| format!("`long-context`: {error}"))?,
            search: price.search.unwrap_or_else(list_price_of_search),
            search_tokens: price.search_tokens.unwrap_or(SEARCH_TOKENS),
            source: None,
        })
    }

    /// Returns the price of one search by the provider.
    ///
    /// ```
    /// use agenthost::price::PriceTable;
    ///
    /// let table = PriceTable::builtin();
    /// let price = table.price("openai-responses", "openai", "gpt-6-luna").ok_or("it is in the table")?;
    /// assert_eq!(price.search().to_string(), "$0.01");
    /// # Ok::<(), &str>(())
    /// ```
    pub fn search(&self) -> Usd {
        self.search
    }

    /// Returns the price of several searches.
    ///
    /// ```
    /// use agenthost::price::PriceTable;
    ///
    /// let table = PriceTable::builtin();
    /// let price = table.price("anthropic", "anthropic", "claude-haiku-5-5").ok_or("it is in the table")?;
    /// assert_eq!(price.searches(3).to_string(), "$0.03");
    /// # Ok::<(), &str>(())
    /// ```
    pub fn searches(&self, count: u64) -> Usd {
        Usd::from_pico(self.search.pico().saturating_mul(count))
    }

    /// Returns the input tokens to reserve for one search or page of the provider.
    ///
    /// ```
    /// use agenthost::config::{PriceConfig, RatesConfig};
    /// use agenthost::price::Price;
    ///
    /// let rates = RatesConfig { input: Some("2".parse()?), output: Some("8".parse()?), ..RatesConfig::default() };
    /// let price = PriceConfig { rates, search_tokens: Some(2_000), ..PriceConfig::default() };
    /// assert_eq!(Price::custom(&price)?.search_tokens(), 2_000);
    /// # Ok::<(), String>(())
    /// ```
    pub fn search_tokens(&self) -> u64 {
        self.search_tokens
    }

    /// Returns the price of a call whose request asks the provider to keep cache entries for an hour.
    #[must_use]
    pub fn with_hour_writes(&self) -> Self {
        let hour = |rates: Rates| Rates {
            cache_write: rates.cache_write_1h,
            ..rates
        };
        Self {
            rates: hour(self.rates),
            long_context: self.long_context.map(|(above, rates)| (above, hour(rates))),
            ..self.clone()
        }
    }

    /// Returns the higher of both prices in each rate, and for searches.
    #[must_use]
    fn at_least(&self, floor: &Self) -> Self {
        let long_context = match (self.long_context, floor.long_context) {
            (None, None) => None,
            (own, other) => {
                let above = [own, other]
                    .into_iter()
                    .flatten()
                    .map(|(above, _)| above)
                    .min()
                    .unwrap_or_default();
                let rates =
                    |step: Option<(u64, Rates)>, plain: Rates| step.map_or(plain, |(_, rates)| rates.max(plain));
                Some((above, rates(own, self.rates).max(rates(other, floor.rates))))
            }
        };
        let rates = self.rates.max(floor.rates);
        Self {
            // A step to the same rates is left out.
            long_context: long_context.filter(|(_, above)| self.long_context.is_some() || *above != rates),
            rates,
            search: self.search.max(floor.search),
            search_tokens: self.search_tokens.max(floor.search_tokens),
            source: self.source.clone(),
        }
    }

    /// Returns the source of the price, if the table names it.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Returns whether input that is read from the provider's cache is cheaper than plain input.
    pub fn caching_pays(&self) -> bool {
        self.rates.cache_read < self.rates.input
    }

    /// Returns the cost of a call that used `usage`, with its searches.
    pub fn cost(&self, usage: &Usage) -> Usd {
        let rates = self
            .long_context
            .filter(|(above, _)| usage.input > *above)
            .map_or(self.rates, |(_, rates)| rates);
        let plain = usage
            .input
            .saturating_sub(usage.cached_input)
            .saturating_sub(usage.cache_write_input);
        let tokens = rates.total([
            (plain, rates.input),
            (usage.cached_input, rates.cache_read),
            (usage.cache_write_input, rates.cache_write),
            (usage.output, rates.output),
        ]);
        tokens.saturating_add(self.searches(usage.searches))
    }

    /// Returns the most that a call with up to `input_tokens` and `output_tokens` can cost: all input at the highest
    /// rate, with the long-context step if it can be reached. Searches are extra.
    pub fn worst(&self, input_tokens: u64, output_tokens: u64) -> Usd {
        let at = |rates: Rates| {
            let input = rates.input.max(rates.cache_read).max(rates.cache_write);
            rates.total([(input_tokens, input), (output_tokens, rates.output)])
        };
        match self.long_context {
            Some((above, rates)) if input_tokens > above => at(self.rates).max(at(rates)),
            _ => at(self.rates),
        }
    }

    /// Returns the most that calls with `tokens` in all can cost, however those are split over calls, into input and
    /// output. Searches are extra.
    pub fn most(&self, tokens: u64) -> Usd {
        // At a fixed number of tokens, cost grows or falls with the input everywhere but at the long-context step, and
        // one large call reaches the step's rates for more of its tokens than several small ones.
        let step = self.long_context.map(|(above, _)| above.saturating_add(1));
        [Some(0), step, Some(tokens)]
            .into_iter()
            .flatten()
            .filter(|input| *input <= tokens)
            .map(|input| self.worst(input, tokens - input))
            .max()
            .unwrap_or_default()
    }
}

impl Rates {
    fn new(input: PerMillion, output: PerMillion, [read, write, hour]: [Option<PerMillion>; 3]) -> Self {
        Self {
            input: input.0,
            output: output.0,
            cache_read: read.map_or(input.0, |read| read.0),
            cache_write: write.map_or(input.0.saturating_add(input.0.div_ceil(4)), |write| write.0),
            cache_write_1h: hour.map_or(input.0.saturating_mul(2), |hour| hour.0),
        }
    }

    /// Returns the higher of each rate.
    fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
        }
    }

    fn custom(rates: &RatesConfig) -> Result<Self, String> {
        let (Some(input), Some(output)) = (rates.input, rates.output) else {
            return Err("a price needs both `input` and `output`".into());
        };
        let read = |key: &str, usd: Usd| PerMillion::of(usd).map_err(|error| format!("`{key}`: {error}"));
        let optional = |key: &str, usd: Option<Usd>| usd.map(|usd| read(key, usd)).transpose();
        let cache = [
            optional("cache-read", rates.cache_read)?,
            optional("cache-write", rates.cache_write)?,
            optional("cache-write-1h", rates.cache_write_1h)?,
        ];
        Ok(Self::new(read("input", input)?, read("output", output)?, cache))
    }

    fn total<const N: usize>(self, parts: [(u64, u64); N]) -> Usd {
        let sum = parts.into_iter().fold(0_u64, |sum, (tokens, rate)| {
            sum.saturating_add(tokens.saturating_mul(rate))
        });
        Usd::from_pico(sum)
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    as_of: String,
    #[serde(flatten)]
    kinds: BTreeMap<String, BTreeMap<String, Price>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PriceText {
    input: PerMillion,
    output: PerMillion,
    cache_read: Option<PerMillion>,
    cache_write: Option<PerMillion>,
    #[serde(rename = "cache-write-1h")]
    cache_write_1h: Option<PerMillion>,
    long_context: Option<StepText>,
    search: Option<PriceEntry>,
    search_tokens: Option<u64>,
    source: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StepText {
    above: u64,
    input: PerMillion,
    output: PerMillion,
    cache_read: Option<PerMillion>,
    cache_write: Option<PerMillion>,
    #[serde(rename = "cache-write-1h")]
    cache_write_1h: Option<PerMillion>,
}

/// A price as written. A float prints in the shortest form that reads back as the same, which is the original text.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum PriceEntry {
    Whole(u64),
    Number(f64),
    Text(String),
}

impl PriceEntry {
    fn usd(self) -> Result<Usd, String> {
        let text = match self {
            Self::Whole(usd) => usd.to_string(),
            Self::Number(usd) => usd.to_string(),
            Self::Text(usd) => usd,
        };
        text.parse::<Usd>().map_err(String::from)
    }
}

fn list_price_of_search() -> Usd {
    SEARCH.parse().unwrap_or_default()
}

/// Pico-dollars per token, read from USD per million tokens: the two differ by a factor of a million.
#[derive(Clone, Copy)]
struct PerMillion(u64);

impl<'de> Deserialize<'de> for PerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let usd = PriceEntry::deserialize(deserializer)?.usd();
        usd.and_then(Self::of).map_err(D::Error::custom)
    }
}

impl PerMillion {
    fn of(usd: Usd) -> Result<Self, String> {
        match (usd.pico() / 1_000_000, usd.pico() % 1_000_000) {
            (per_token, 0) => Ok(Self(per_token)),
            _ => Err("a price for a million tokens has at most six decimals".into()),
        }
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = PriceText::deserialize(deserializer)?;
        let step = |step: StepText| {
            let cache = [step.cache_read, step.cache_write, step.cache_write_1h];
            (step.above, Rates::new(step.input, step.output, cache))
        };
        let cache = [text.cache_read, text.cache_write, text.cache_write_1h];
        Ok(Self {
            rates: Rates::new(text.input, text.output, cache),
            long_context: text.long_context.map(step),
            search: match text.search {
                Some(entry) => entry.usd().map_err(D::Error::custom)?,
                None => list_price_of_search(),
            },
            search_tokens: text.search_tokens.unwrap_or(SEARCH_TOKENS),
            source: text.source,
        })
    }
}

#[cfg(test)]
mod tests;
