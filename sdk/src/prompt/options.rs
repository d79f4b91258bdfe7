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
