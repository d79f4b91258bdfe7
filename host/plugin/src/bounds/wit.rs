//! The bounds on embedded WIT text, counted in one pass over its words before it is parsed.
//!
//! A short text can describe a large world: `include` copies the included world, and a world imports all interfaces
//! that its own imports use. The parser also recurses for each interface that uses another. So the words that create
//! copies are counted, outside of comments and strings, by the rules of the parser. A text that exceeds a bound is not
//! parsed, and the plugin is shown without its docs.

use std::iter::Peekable;
use std::str::CharIndices;

use super::bound::Bound;
use crate::error::ComponentError;

const SHORTEN: &str = "Embed the plugin's own WIT and that of its dependencies, without generated text.";

/// The files of one text. All of WASI has about 40.
const FILES: Bound = Bound {
    most: 200,
    does: "the text has",
    things: "files",
    hint: SHORTEN,
};
/// Interfaces: the parser recurses for each that another uses. All of WASI has about 30.
const INTERFACES: Bound = Bound {
    most: 500,
    does: "the text has",
    things: "interfaces",
    hint: SHORTEN,
};
/// Worlds and packages. A world gets all interfaces that its imports use.
const WORLDS: Bound = Bound {
    most: 100,
    does: "the text has",
    things: "worlds and packages",
    hint: SHORTEN,
};
/// Bytes that `include` can copy, without comments and spaces: each `include` copies at most the whole text, and once
/// more for each name that is given to a copy. The parser's result for a copy is up to 40 times as large.
const INCLUDED: Bound = Bound {
    most: 2 << 20,
    does: "the text includes worlds of",
    things: "bytes",
    hint: SHORTEN,
};
/// The same with comments and spaces, because comments are copied unchanged.
const INCLUDED_DOCS: Bound = Bound {
    most: 32 << 20,
    does: "the text includes worlds with docs of",
    things: "bytes",
    hint: SHORTEN,
};
/// Bytes of one name, version or string: the parser copies some of them to each interface of a world.
const WORD_BYTES: Bound = Bound {
    most: 500,
    does: "a name or version in the text has",
    things: "bytes",
    hint: SHORTEN,
};

/// Counts the contents of the embedded texts of one component; each text is passed as its files.
///
/// # Errors
///
/// Returns an error with the exceeded bound and the count.
pub(crate) fn wit<'t, T: Iterator<Item = &'t str>>(texts: impl Iterator<Item = T>) -> Result<(), ComponentError> {
    let (mut included, mut included_docs) = (0, 0);
    for files in texts {
        let mut counts = Counts::default();
        for text in files {
            FILES.add(&mut counts.files, 1)?;
            counts.bytes = counts.bytes.saturating_add(text.len() as u64);
            counts.text(text)?;
        }
        let copies = match counts.withs {
            0 => counts.includes,
            _ => counts.includes.saturating_mul(counts.renames.saturating_add(1)),
        };
        INCLUDED.add(&mut included, copies.saturating_mul(counts.code_bytes))?;
        INCLUDED_DOCS.add(&mut included_docs, copies.saturating_mul(counts.bytes))?;
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    files: u64,
    /// Bytes of all files.
    bytes: u64,
    /// The bytes outside of comments that are not spaces.
    code_bytes: u64,
    interfaces: u64,
    worlds: u64,
    includes: u64,
    withs: u64,
    renames: u64,
}

impl Counts {
    fn text(&mut self, text: &str) -> Result<(), ComponentError> {
        let mut chars = text.char_indices().peekable();
        // The bytes of the name, version or string that is being read: several words if only a dot or a similar
        // character is between them.
        let mut joined = 0;
        while let Some((start, first)) = chars.next() {
            let mut comment = false;
            match first {
                '/' if chars.next_if(|(_, char)| *char == '/').is_some() => {
                    while chars.next_if(|(_, char)| *char != '\n').is_some() {}
                    comment = true;
                }
                '/' if chars.next_if(|(_, char)| *char == '*').is_some() => {
                    block_comment(&mut chars);
                    comment = true;
                }
                '"' => {
                    string(&mut chars);
                    let end = chars.peek().map_or(text.len(), |(end, _)| *end);
                    joined += end - start;
                }
                '.' | '+' | '@' | ':' | '/' | '%' => joined += 1,
                // A number ends where a word begins.
                first if first.is_ascii_digit() => joined += 1,
                first if in_word(first) => {
                    while chars.next_if(|(_, char)| in_word(*char)).is_some() {}
                    let end = chars.peek().map_or(text.len(), |(end, _)| *end);
                    joined += end - start;
                    self.word(text.get(start..end).unwrap_or_default())?;
                }
                _ => joined = 0,
            }
            if !comment && !first.is_ascii_whitespace() {
                let end = chars.peek().map_or(text.len(), |(end, _)| *end);
                self.code_bytes += (end - start) as u64;
            }
            WORD_BYTES.check(joined as u64)?;
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), ComponentError> {
        match word {
            "interface" => INTERFACES.add(&mut self.interfaces, 1),
            "world" | "package" => WORLDS.add(&mut self.worlds, 1),
            "include" => {
                self.includes += 1;
                Ok(())
            }
            "with" => {
                self.withs += 1;
                Ok(())
            }
            "as" => {
                self.renames += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn in_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '-' || char == '_' || !char.is_ascii()
}

/// Skips the rest of a comment, including nested comments.
fn block_comment(chars: &mut Peekable<CharIndices<'_>>) {
    let mut depth = 1_u32;
    while depth > 0 {
        let Some((_, char)) = chars.next() else { return };
        if char == '/' && chars.next_if(|(_, next)| *next == '*').is_some() {
            depth += 1;
        } else if char == '*' && chars.next_if(|(_, next)| *next == '/').is_some() {
            depth -= 1;
        }
    }
}

/// Skips the rest of a string.
fn string(chars: &mut Peekable<CharIndices<'_>>) {
    while let Some((_, char)) = chars.next() {
        match char {
            '"' => return,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        wit(std::iter::once(std::iter::once(text))).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    fn many(count: usize, each: impl Fn(usize) -> String) -> String {
        (0..count).map(each).collect()
    }

    #[test]
    fn each_bound_on_text_refuses_what_exceeds_it_and_nothing_else() {
        for (text, said) in [
            (many(500, |n| format!("interface i{n} {{}}\n")), "fine"),
            (
                many(501, |n| format!("interface i{n} {{}}\n")),
                "the text has 501 interfaces; at most 500 are allowed",
            ),
            (
                many(101, |n| format!("world w{n} {{}}\n")),
                "the text has 101 worlds and packages; at most 100 are allowed",
            ),
            (format!("interface {} {{}}", "a".repeat(500)), "fine"),
            (
                format!("interface {} {{}}", "a".repeat(501)),
                "a name or version in the text has 501 bytes; at most 500 are allowed",
            ),
            (
                format!("package a:b@1.0.0-{};", "a.".repeat(300)),
                "a name or version in the text has 501 bytes; at most 500 are allowed",
            ),
        ] {
            assert_eq!(check(&text), said);
        }
        let files = wit(std::iter::once(std::iter::repeat_n("", 201))).unwrap_err();
        assert_eq!(files.to_string(), "the text has 201 files; at most 200 are allowed");
    }

    #[test]
    fn includes_count_with_all_that_they_may_copy() {
        let padded = |text: &str, with: &str, bytes: usize| format!("{text}{}", with.repeat(bytes - text.len()));
        let twice = "world/**/w{include/**/x;include/**/y;}";
        let (code, spaces) = ((1 << 20) + 12, 16 << 20);
        assert_eq!(check(&padded(twice, ";", code)), "fine");
        let refused = "the text includes worlds of 2,097,154 bytes; at most 2,097,152 are allowed";
        assert_eq!(check(&padded(twice, ";", code + 1)), refused);
        // All texts of a component share the bound.
        let (text, small) = (padded(twice, ";", code), "world w { include x; }");
        let texts = [text.as_str(), small].map(std::iter::once);
        assert!(wit(texts.into_iter()).is_err());
        assert_eq!(check(&padded(twice, " ", spaces)), "fine");
        assert_eq!(
            check(&padded(twice, " ", spaces + 1)),
            "the text includes worlds with docs of 33,554,434 bytes; at most 33,554,432 are allowed"
        );
        // A copy may be given new names, and then counts as another copy.
        let renamed = "world/**/w{include/**/x/**/with{a/**/as b}}";
        assert_eq!(check(&padded(renamed, ";", (1 << 20) + 17)), "fine");
        assert_eq!(check(&padded(renamed, ";", (1 << 20) + 18)), refused);
        assert_eq!(check(&padded("interface i { use x.{a as b}; }", ";", 3 << 20)), "fine");
    }

    #[test]
    fn words_are_counted_where_the_parser_sees_them() {
        let worlds = "world a{}".repeat(101);
        for hidden in [
            format!("// {worlds}"),
            format!("/* /* */ {worlds} */"),
            format!("/* {worlds}"),
        ] {
            assert_eq!(check(&hidden), "fine", "{hidden}");
        }
        for seen in [
            format!("//\n{worlds}"),
            format!("/* /* */ */{worlds}"),
            format!("@external-id(\"/*\") {worlds}"),
            format!("@external-id(\"\\\"/*\") {worlds}"),
            "1world a{}".repeat(101),
        ] {
            assert!(check(&seen).contains("101 worlds"), "{seen}");
        }
    }
}
