//! Suggests the known name closest to a misspelled one.

/// Longer names are not compared.
const MAX_TYPED: usize = 64;

/// Returns the known name that is most similar to `name`, ignoring case. Up to a third of the known name's letters may
/// differ, and at least one; `None` if no known name is that similar.
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
