//! Finds the name that a misspelled one was meant to be.

/// Longer names are not compared.
const MAX_TYPED: usize = 64;

/// Returns the known name that `name` was most likely meant to be: at most a third of its letters differ, upper case or not.
///
/// ```
/// use agenthost_core::nearest::nearest;
///
/// assert_eq!(nearest("tokns", ["calls", "tokens"].into_iter()), Some("tokens"));
/// assert_eq!(nearest("time", ["calls", "tokens"].into_iter()), None);
/// ```
pub fn nearest<'t>(name: &str, known: impl Iterator<Item = &'t str>) -> Option<&'t str> {
    if name.len() > MAX_TYPED {
        return None;
    }
    let name = name.to_lowercase();
    known
        .filter(|known| known.len() <= MAX_TYPED)
        .map(|known| (strsim::osa_distance(&name, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
