//! The memory that a value takes.

use wasmtime::component::Val;

/// Returns the bytes that `value` takes: its parts and its texts. Takes time in proportion to the number of its parts.
pub(crate) fn size(value: &Val) -> u64 {
    let own = size_of::<Val>() as u64;
    let boxed = |value: &Option<Box<Val>>| value.as_deref().map_or(0, size);
    let below = match value {
        Val::String(text) | Val::Enum(text) => text.len() as u64,
        Val::List(values) | Val::FixedLengthList(values) | Val::Tuple(values) => values.iter().map(size).sum(),
        Val::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum(),
        Val::Record(fields) => fields.iter().map(|(name, value)| name.len() as u64 + size(value)).sum(),
        Val::Variant(name, payload) => name.len() as u64 + boxed(payload),
        Val::Option(payload) => boxed(payload),
        Val::Result(Ok(payload) | Err(payload)) => boxed(payload),
        Val::Flags(names) => names.iter().map(|name| own + name.len() as u64).sum(),
        _ => 0,
    };
    own + below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_parts_count() {
        let one = size(&Val::Bool(true));
        assert_eq!(size(&Val::String("x".repeat(100))), one + 100);
        let list = Val::List(vec![
            Val::U8(0),
            Val::Option(Some(Box::new(Val::U8(0)))),
            Val::Option(None),
        ]);
        assert_eq!(size(&list), 5 * one);
        let record = Val::Record(vec![("name".into(), Val::Result(Err(Some(Box::new(Val::U8(0))))))]);
        assert_eq!(size(&record), 3 * one + 4);
        let fixed = Val::FixedLengthList(vec![Val::U8(0); 3]);
        assert_eq!(size(&Val::Map(vec![(Val::U8(0), fixed)])), 6 * one);
    }
}
