//! The values of the options that the contract names.

/// The effort with which a model thinks; the operator's model defines the meaning of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the cases are the vendors' own words")]
pub enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::Xhigh => "xhigh",
            Effort::Max => "max",
        }
    }
}

/// The time for which a provider keeps the beginning of a prompt in its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cache {
    /// Five minutes, the providers' default.
    FiveMinutes,
    /// One hour.
    OneHour,
}

impl Cache {
    pub(super) fn name(self) -> &'static str {
        match self {
            Cache::FiveMinutes => "5m",
            Cache::OneHour => "1h",
        }
    }
}

/// The time at which a model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Thinking {
    /// When the model finds it useful.
    Adaptive,
    /// Never.
    Off,
    /// Between the calls of tools alone.
    BetweenTools,
}

impl Thinking {
    pub(super) fn name(self) -> &'static str {
        match self {
            Thinking::Adaptive => "adaptive",
            Thinking::Off => "off",
            Thinking::BetweenTools => "between-tools",
        }
    }
}

/// Which tools the model may or must call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToolChoice {
    /// The model chooses whether it calls a tool; the default.
    Auto,
    /// The model calls no tool.
    None,
    /// The model calls a tool. Not every model supports it.
    Any,
    /// The model calls the tool with this name. Not every model supports it.
    Tool(String),
}

impl ToolChoice {
    pub(super) fn value(&self) -> String {
        match self {
            ToolChoice::Auto => "auto".to_owned(),
            ToolChoice::None => "none".to_owned(),
            ToolChoice::Any => "any".to_owned(),
            ToolChoice::Tool(name) => format!("tool:{name}"),
        }
    }
}
