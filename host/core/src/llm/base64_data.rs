//! The bytes of a medium in JSON: base64, which is a third as long as a list of numbers. Lists are still read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(data))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_any(Data)
}

struct Data;

impl<'de> Visitor<'de> for Data {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 or a list of bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        STANDARD.decode(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let mut data = Vec::new();
        while let Some(byte) = list.next_element()? {
            data.push(byte);
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use crate::llm::Part;

    #[test]
    fn data_are_written_as_base64_and_lists_are_read() {
        let part = Part::Media {
            mime: "image/png".into(),
            data: vec![0, 255, 7, 8],
        };
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(text, r#"{"media":{"mime":"image/png","data":"AP8HCA=="}}"#);
        for text in [&text, r#"{"media":{"mime":"image/png","data":[0,255,7,8]}}"#] {
            assert_eq!(serde_json::from_str::<Part>(text).unwrap(), part);
        }
        for broken in ["\"AP8\"", "[256]", "7"] {
            let text = format!(r#"{{"media":{{"mime":"","data":{broken}}}}}"#);
            assert!(serde_json::from_str::<Part>(&text).is_err(), "{broken}");
        }
    }
}
