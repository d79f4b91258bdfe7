//! Dates in UTC, without a library of time zones.

/// The year, month and day in UTC of a time in milliseconds since 1970.
///
/// ```
/// assert_eq!(agenthost_core::date::utc_date(951_782_400_000), (2000, 2, 29));
/// ```
#[must_use]
pub fn utc_date(ms: u64) -> (u64, u64, u64) {
    // Whole eras of 400 years first; then the years of this era that have passed, counted from March, so that a leap
    // day is a year's last.
    let days = ms / DAY + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// The milliseconds of a day.
const DAY: u64 = 86_400_000;

/// The next midnight in UTC, in milliseconds since 1970.
///
/// ```
/// assert_eq!(agenthost_core::date::next_day(86_400_000), 2 * 86_400_000);
/// ```
#[must_use]
pub fn next_day(ms: u64) -> u64 {
    (ms / DAY).saturating_add(1).saturating_mul(DAY)
}

/// The beginning of the next month in UTC, in milliseconds since 1970.
///
/// ```
/// use agenthost_core::date::{next_month, utc_date};
///
/// assert_eq!(utc_date(next_month(951_782_400_000)), (2000, 3, 1));
/// ```
#[must_use]
pub fn next_month(ms: u64) -> u64 {
    let (_, month, _) = utc_date(ms);
    let mut next = next_day(ms);
    // At most 31 times.
    while utc_date(next).1 == month && next < u64::MAX {
        next = next_day(next);
    }
    next
}
