//! The reasoning blocks that models and servers leave in the text of a reply.
//!
//! A model writes its reasoning between two tags of its chat template. A server that knows the template removes the
//! block; others pass it on, in full, or without the opening tag if the template writes that one into the prompt. This
//! module finds the blocks; it never changes text outside of them.
//!
//! Left out: reasoning without tags, and tags inside of a Markdown code span.

use std::ops::Range;

use agenthost_core::llm::Part;

/// The tags around one kind of block.
struct Tags {
    open: &'static str,
    close: &'static str,
    /// `true` if prompts ask for such a block too. It is reasoning around JSON, but part of a text for people.
    asked_for: bool,
}

/// The tags of common chat templates. ASCII letters match in any case, except in brackets.
const TAGS: [Tags; 16] = [
    tags("<think>", "</think>"),
    tags("<thinking>", "</thinking>"),
    tags("<thought>", "</thought>"),
    tags("<thoughts>", "</thoughts>"),
    tags("<reasoning>", "</reasoning>"),
    asked_for("<reflection>", "</reflection>"),
    asked_for("<analysis>", "</analysis>"),
    asked_for("<scratchpad>", "</scratchpad>"),
    // ByteDance Seed, LongCat, Magistral, Kimi-VL, Cohere, OpenThinker, MedGemma, gpt-oss.
    tags("<seed:think>", "</seed:think>"),
    tags("<longcat_think>", "</longcat_think>"),
    tags("[THINK]", "[/THINK]"),
    tags("◁think▷", "◁/think▷"),
    tags("<|start_thinking|>", "<|end_thinking|>"),
    tags("<|begin_of_thought|>", "<|end_of_thought|>"),
    tags("<unused94>", "<unused95>"),
    tags("<|channel|>analysis", "<|channel|>final<|message|>"),
];

const fn tags(open: &'static str, close: &'static str) -> Tags {
    Tags {
        open,
        close,
        asked_for: false,
    }
}

const fn asked_for(open: &'static str, close: &'static str) -> Tags {
    Tags {
        open,
        close,
        asked_for: true,
    }
}

/// The places at which an opening tag counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// At the start of the text and after another block. A text for people may name a tag elsewhere.
    AtStart,
    /// Anywhere: everything around a JSON value is superfluous.
    Anywhere,
}

/// The places of JSON in a text, in order, at which tags do not count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Opaque {
    /// Values, and the strings of values with a fault.
    pub(crate) no_tags: Vec<Range<usize>>,
    /// Values, and values with a fault: a closing tag in there has an opening one before it, or belongs to the value.
    pub(crate) no_lone_ends: Vec<Range<usize>>,
}

/// Returns the text without its reasoning blocks. The text is unchanged if it has none.
///
/// ```
/// use agenthost_providers::reasoning::without;
///
/// assert_eq!(without("<think>\nA city, then.\n</think>\n\nParis"), "Paris");
/// assert_eq!(without("A city, then.\n</think>\n\nParis"), "Paris");
/// assert_eq!(without("The tag `<think>` begins a block."), "The tag `<think>` begins a block.");
/// ```
pub fn without(text: &str) -> &str {
    let blocks = blocks(text, Opening::AtStart, &Opaque::default());
    // Blocks are at the start of such a text.
    let Some(end) = blocks.last().map(|block| block.end) else {
        return text;
    };
    text.get(end..).unwrap_or_default().trim_start()
}

/// Returns whether `content` has nothing but blank texts.
pub(crate) fn is_missing(content: &[Part]) -> bool {
    let is_blank = |part: &Part| matches!(part, Part::Text(text) if text.chars().all(is_blank));
    content.iter().all(is_blank)
}

/// Returns `text` as a reasoning block.
pub(crate) fn block(text: &str) -> String {
    format!("<think>{text}</think>")
}

/// Returns the ranges of the reasoning blocks in `text`, with their tags, in order. Tags in `opaque` places do not
/// count. A block without an end reaches to the end of the text, and one without a beginning to its start.
pub(crate) fn blocks(text: &str, opening: Opening, opaque: &Opaque) -> Vec<Range<usize>> {
    let not_in = &opaque.no_tags;
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut named = [false; TAGS.len()];
    let mut at = 0;
    // Whether there are words after the last block.
    let mut words = false;
    while let Some(tag) = next_tag(text, at, not_in) {
        let last_end = blocks.last().map_or(0, |block| block.end);
        let blank_before = || {
            let before = text.get(last_end..tag.range.start).unwrap_or_default();
            before.chars().all(is_blank)
        };
        at = tag.range.end;
        if opening == Opening::AtStart && TAGS.get(tag.kind).is_some_and(|tags| tags.asked_for) {
            continue;
        }
        if tag.opens {
            if opening == Opening::AtStart && (words || !blank_before()) {
                words = true;
                if let Some(named) = named.get_mut(tag.kind) {
                    *named = true;
                }
                continue;
            }
            let end = closing(text, &tag, not_in).unwrap_or(text.len());
            blocks.push(tag.range.start..end);
            at = end;
        } else if !named.get(tag.kind).is_some_and(|named| *named)
            && !is_in(tag.range.start, &opaque.no_lone_ends)
            && ends_a_block(text, tag.range.end)
        {
            // The template has written the beginning into the prompt.
            blocks.clear();
            words = false;
            blocks.push(0..tag.range.end);
        }
    }
    blocks
}

/// Returns `text` without `blocks`, and the text in them without the tags.
pub(crate) fn split(text: &str, blocks: &[Range<usize>]) -> (String, String) {
    let (mut rest, mut inside) = (String::new(), String::new());
    let mut at = 0;
    for block in blocks {
        rest.push_str(text.get(at..block.start).unwrap_or_default());
        rest.push('\n');
        inside.push_str(untagged(text.get(block.clone()).unwrap_or_default()));
        inside.push('\n');
        at = block.end;
    }
    rest.push_str(text.get(at..).unwrap_or_default());
    (rest, inside)
}

/// Returns whether `c` separates words or is invisible at the start of a text.
pub(crate) fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}')
}

/// One tag in a text.
struct Tag {
    kind: usize,
    opens: bool,
    range: Range<usize>,
}

fn next_tag(text: &str, from: usize, not_in: &[Range<usize>]) -> Option<Tag> {
    let bytes = text.as_bytes();
    let mut at = from;
    loop {
        // The first bytes of all tags: `<`, `[` and that of `◁`.
        at += bytes
            .get(at..)?
            .iter()
            .position(|byte| matches!(byte, b'<' | b'[' | 0xe2))?;
        let rest = bytes.get(at..)?;
        let starts = |tag: &str| {
            let exact = tag.starts_with('[');
            rest.get(..tag.len())
                .is_some_and(|start| start == tag.as_bytes() || !exact && start.eq_ignore_ascii_case(tag.as_bytes()))
        };
        let found = TAGS.iter().enumerate().find_map(|(kind, tags)| {
            let opens = starts(tags.open);
            let length = if opens { tags.open.len() } else { tags.close.len() };
            (opens || starts(tags.close)).then(|| Tag {
                kind,
                opens,
                range: at..at + length,
            })
        });
        match found {
            Some(tag) if !is_quoted(bytes, &tag.range) && !is_in(at, not_in) => {
                return Some(tag);
            }
            Some(tag) => at = tag.range.end,
            None => at += 1,
        }
    }
}

fn is_in(at: usize, ranges: &[Range<usize>]) -> bool {
    let next = ranges.partition_point(|range| range.end <= at);
    ranges.get(next).is_some_and(|range| range.contains(&at))
}

/// Returns whether the tag is a Markdown code span.
fn is_quoted(text: &[u8], tag: &Range<usize>) -> bool {
    let before = tag.start.checked_sub(1).and_then(|at| text.get(at));
    before == Some(&b'`') && text.get(tag.end) == Some(&b'`')
}

/// Returns the end of the block that `opened` opens.
fn closing(text: &str, opened: &Tag, not_in: &[Range<usize>]) -> Option<usize> {
    let mut at = opened.range.end;
    loop {
        let tag = next_tag(text, at, not_in)?;
        if tag.kind == opened.kind && !tag.opens {
            return Some(tag.range.end);
        }
        at = tag.range.end;
    }
}

/// Returns whether what follows a closing tag at `at` may be the start of an answer: a tag that a sentence names is
/// followed by other punctuation.
fn ends_a_block(text: &str, at: usize) -> bool {
    let next = text.get(at..).and_then(|rest| rest.chars().next());
    next.is_none_or(|c| is_blank(c) || matches!(c, '{' | '[' | '`' | '*' | '#' | '<') || c.is_alphanumeric())
}

/// Returns a block without its tags.
fn untagged(block: &str) -> &str {
    let fits = |part: Option<&str>, tag: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(tag));
    let mut inside = block;
    for tags in &TAGS {
        if fits(inside.get(..tags.open.len()), tags.open) {
            inside = inside.get(tags.open.len()..).unwrap_or_default();
        }
        let end = inside.len().checked_sub(tags.close.len());
        if let Some(end) = end.filter(|end| fits(inside.get(*end..), tags.close)) {
            inside = inside.get(..end).unwrap_or_default();
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_for_people_loses_the_reasoning_at_its_start() {
        for (text, kept) in [
            ("<think>a</think>b", "b"),
            ("\u{feff}\n<think>\n\n</think>\n\nb", "b"),
            ("<THINK>a</Think> b", "b"),
            ("<thinking>a</thinking>\n<think>b</think>\nc", "c"),
            ("a\n</think>\n\nb", "b"),
            ("a</think>b", "b"),
            ("a</think>\nb</think>\nc", "c"),
            ("<think>a</think>b</think>\nc", "c"),
            ("[THINK]a[/THINK]b", "b"),
            ("◁think▷a◁/think▷b", "b"),
            ("<seed:think>a</seed:think>b", "b"),
            ("<|START_THINKING|>a<|END_THINKING|>b", "b"),
            ("<unused94>thought\na<unused95>b", "b"),
            (
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
                "b",
            ),
            // Cut off while it was thinking.
            ("<think>a, or", ""),
            ("<think>a <b></think>", ""),
        ] {
            assert_eq!(without(text), kept, "{text}");
        }
    }

    #[test]
    fn a_text_that_speaks_of_tags_is_kept() {
        for text in [
            "",
            "a",
            "Models write <think> and </think> around it.",
            "Write `<think>` first and `</think>` last.",
            "The tags are <think>…</think>.",
            "It ends with </think>, a tag.",
            "a < b [think] c",
            "[Think] of it.",
            "<analysis>a</analysis>\n<result>b</result>",
            "```\n<think>\na\n</think>\n```",
        ] {
            assert_eq!(without(text), text);
        }
    }

    #[test]
    fn around_json_a_block_is_found_anywhere() {
        let text = "So: <think>a</think> b <reasoning>c";
        let blocks = blocks(text, Opening::Anywhere, &Opaque::default());
        assert_eq!(split(text, &blocks), ("So: \n b \n".to_owned(), "a\nc\n".to_owned()));
        // The value of a member is not a tag.
        let text = "{\"a\": \"<think>b</think>\"}";
        let opaque = Opaque {
            no_tags: std::iter::once(0..text.len()).collect(),
            ..Opaque::default()
        };
        assert!(super::blocks(text, Opening::Anywhere, &opaque).is_empty());
    }
}
