//! Reads the response headers that hold lists: `WWW-Authenticate` and `Link`.
//!
//! Registries and the proxies in front of them put several entries into one header or into several headers, with commas
//! in quoted values. What cannot be read ends the list; the entries before it count.

use reqwest::header::{GetAll, HeaderValue};

/// The rest of a header.
struct Rest<'a>(&'a str);

/// One challenge of `WWW-Authenticate`: its scheme, and its parameters with names in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) scheme: String,
    params: Vec<(String, String)>,
}

impl Entry {
    /// Returns the first value of a parameter.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let mut params = self.params.iter();
        params.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Returns the entries of all headers `WWW-Authenticate`.
pub(super) fn challenges(headers: GetAll<'_, HeaderValue>) -> Vec<Entry> {
    headers.iter().flat_map(|header| entries(&text(header))).collect()
}

/// Returns the first address in the headers `Link` that is the next page.
pub(super) fn next_page(headers: GetAll<'_, HeaderValue>) -> Option<String> {
    headers.iter().find_map(|header| next_of(&text(header)))
}

fn text(header: &HeaderValue) -> String {
    String::from_utf8_lossy(header.as_bytes()).into_owned()
}

fn entries(text: &str) -> Vec<Entry> {
    let mut rest = Rest(text);
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        rest.skip(|char| char == ',' || char.is_whitespace());
        let word = rest.take(|char| !char.is_whitespace() && !",=\"".contains(char));
        if word.is_empty() {
            return entries;
        }
        rest.skip(char::is_whitespace);
        if !rest.eat('=') {
            entries.push(Entry {
                scheme: word.to_ascii_lowercase(),
                params: Vec::new(),
            });
            continue;
        }
        let Some(value) = rest.value() else {
            // An open quote: nobody knows what the entry means.
            entries.pop();
            return entries;
        };
        if let Some(entry) = entries.last_mut() {
            entry.params.push((word.to_ascii_lowercase(), value));
        }
    }
}

fn next_of(text: &str) -> Option<String> {
    let mut rest = Rest(text);
    loop {
        rest.skip(|char| char == ',' || char.is_whitespace());
        if !rest.eat('<') {
            return None;
        }
        let address = rest.take(|char| char != '>').to_owned();
        if !rest.eat('>') {
            return None;
        }
        let mut next = false;
        loop {
            rest.skip(char::is_whitespace);
            if !rest.eat(';') {
                break;
            }
            rest.skip(char::is_whitespace);
            let name = rest.take(|char| !char.is_whitespace() && !",;=\"".contains(char));
            rest.skip(char::is_whitespace);
            if !rest.eat('=') {
                continue;
            }
            let relations = rest.value()?;
            let mut relations = relations.split_whitespace();
            next |= name.eq_ignore_ascii_case("rel") && relations.any(|relation| relation.eq_ignore_ascii_case("next"));
        }
        if next {
            return Some(address);
        }
    }
}

impl<'a> Rest<'a> {
    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|char| !fits(char)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, fits: impl Fn(char) -> bool) {
        self.take(fits);
    }

    fn eat(&mut self, wanted: char) -> bool {
        match self.0.strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Reads a value, quoted or not; `None` if its quote is open.
    fn value(&mut self) -> Option<String> {
        self.skip(char::is_whitespace);
        if !self.eat('"') {
            return Some(
                self.take(|char| !char.is_whitespace() && !",;".contains(char))
                    .to_owned(),
            );
        }
        let mut value = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                char => value.push(char),
            }
        }
        self.0 = chars.as_str();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Vec<(String, String)>)> {
        let entries = entries(text).into_iter();
        entries.map(|entry| (entry.scheme, entry.params)).collect()
    }

    fn entry(scheme: &str, params: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let params = params.iter();
        let params = params.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        (scheme.to_owned(), params.collect())
    }

    #[test]
    fn several_challenges_share_a_header() {
        let realm = ("realm", "Registry, \"inner\"");
        let bearer = [("realm", "https://auth.example/token?a=b"), ("service", "a, b")];
        for text in [
            r#"Basic realm="Registry, \"inner\"", Bearer realm="https://auth.example/token?a=b",service="a, b""#,
            r#"BASIC Realm = "Registry, \"inner\"" ,, bearer REALM=https://auth.example/token?a=b , Service="a, b""#,
        ] {
            assert_eq!(
                read(text),
                [entry("basic", &[realm]), entry("bearer", &bearer)],
                "{text}"
            );
        }
        // A value in base64 alone is neither a known scheme nor a known parameter.
        let negotiated = read("Negotiate YWJj==, Bearer realm=/token");
        assert_eq!(negotiated.last(), Some(&entry("bearer", &[("realm", "/token")])));
        assert_eq!(read("Basic, Bearer realm=\"open"), [entry("basic", &[])]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        for (text, expected) in [
            (
                "</v2/a/tags/list?last=a,b&n=9>; rel=\"next\"",
                Some("/v2/a/tags/list?last=a,b&n=9"),
            ),
            ("<?last=b>; rel=next", Some("?last=b")),
            (
                "<a>; rel=\"first\"; title=\"x, <y>\", <b>; REL=\"prev Next\"",
                Some("b"),
            ),
            ("<a>;rel=last , <b> ; crossorigin ; rel=next", Some("b")),
            ("<a>; rel=nextish", None),
            ("/v2/a/tags/list>; rel=\"next\"", None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(next_of(text).as_deref(), expected, "{text}");
        }
    }
}
