//! Generates text that matches a pattern.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The maximum number of generated pieces of a pattern; nested repetitions multiply.
const MOST_PIECES: usize = 4096;

/// Returns text that matches `pattern`, or `preferred` if the pattern accepts any text. `None` if the pattern is
/// invalid or too large.
pub(super) fn matching(pattern: &str, preferred: &str) -> Option<String> {
    if matches!(pattern, ".*" | ".+" | "^.*$" | "^.+$") {
        return Some(preferred.to_owned());
    }
    let mut text = String::new();
    write(&regex_syntax::parse(pattern).ok()?, &mut text, &mut 0)?;
    Some(text)
}

/// Appends the shortest match, using the first of alternatives. Anchors and word boundaries add nothing.
fn write(hir: &Hir, text: &mut String, pieces: &mut usize) -> Option<()> {
    *pieces += 1;
    if *pieces > MOST_PIECES {
        return None;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(Class::Unicode(class)) => {
            // A letter or digit reads better than the first code point of the class, which is often a control
            // character.
            let holds = |c: &char| {
                class
                    .ranges()
                    .iter()
                    .any(|range| (range.start()..=range.end()).contains(c))
            };
            let likely = "oa0O-_ ".chars().find(holds);
            text.push(likely.or_else(|| class.ranges().first().map(|range| range.start()))?);
        }
        HirKind::Class(Class::Bytes(class)) => text.push(char::from(class.ranges().first()?.start())),
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min {
                write(&repetition.sub, text, pieces)?;
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, text, pieces)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, text, pieces))?,
        HirKind::Alternation(branches) => write(branches.first()?, text, pieces)?,
    }
    Some(())
}
