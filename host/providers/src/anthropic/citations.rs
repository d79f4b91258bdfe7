//! The citations of a text: as sources, and in the form in which the API takes them back.

use agenthost_core::llm::Citation;
use serde_json::{Map, Value};

use super::server_tools::ServerUses;

/// Returns the source that a citation names.
pub(super) fn read(citation: &Value, uses: &ServerUses) -> Citation {
    let text = |name: &str| citation.get(name).and_then(Value::as_str);
    let title = text("title").or_else(|| text("document_title"));
    let url = text("url").or_else(|| uses.url_of_page(title)).unwrap_or_default();
    Citation {
        url: url.to_owned(),
        title: title.map(str::to_owned),
        quote: text("cited_text").map(str::to_owned),
        ..Citation::default()
    }
}

/// Returns the citation as it goes back: without the members that only a reply has, such as `file_id`.
pub(super) fn returned(citation: &Value) -> Value {
    let kind = citation.get("type").and_then(Value::as_str);
    let (Some(members), Some(known)) = (citation.as_object(), kind.and_then(members_of)) else {
        return citation.clone();
    };
    let is_known = |name: &String| name == "type" || name == "cited_text" || known.contains(&name.as_str());
    let kept = members.iter().filter(|(name, _)| is_known(name));
    let kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    Value::Object(kept)
}

/// The members that a citation of this type has in a request, apart from its type and the cited text; `None` if the type is
/// not known. From the vendor's package.
fn members_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "char_location" => &["document_index", "document_title", "start_char_index", "end_char_index"],
        "page_location" => &[
            "document_index",
            "document_title",
            "start_page_number",
            "end_page_number",
        ],
        "content_block_location" => &[
            "document_index",
            "document_title",
            "start_block_index",
            "end_block_index",
        ],
        "web_search_result_location" => &["encrypted_index", "title", "url"],
        "search_result_location" => &[
            "search_result_index",
            "source",
            "title",
            "start_block_index",
            "end_block_index",
        ],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_citation_goes_back_without_what_only_a_reply_has() {
        let page = json!({"type": "char_location", "document_index": 0, "document_title": "A", "cited_text": "Blue", "start_char_index": 0, "end_char_index": 4});
        for file in [json!(null), json!("file_1")] {
            let mut came = page.clone();
            came["file_id"] = file;
            assert_eq!(returned(&came).to_string(), page.to_string());
        }
        let hit = json!({"url": "https://example.com/", "type": "web_search_result_location", "encrypted_index": "E", "title": null, "cited_text": "x"});
        assert_eq!(returned(&hit).to_string(), hit.to_string(), "in the same order");
        // A type of a later version goes back as it came.
        let new = json!({"type": "new_location", "file_id": "f"});
        assert_eq!(returned(&new), new);
    }
}
