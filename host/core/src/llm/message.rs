//! The messages of a conversation.

use serde::{Deserialize, Serialize};

use super::base64_data;

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The task.
    User,
    /// The model.
    Assistant,
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Plain text.
    Text(String),
    /// Bytes with their media type.
    Media {
        /// The media type, such as `image/png`.
        mime: String,
        /// The bytes; base64 in JSON.
        #[serde(with = "base64_data")]
        data: Vec<u8>,
    },
    /// A kind of content that the contract has no case for, as JSON.
    Extension {
        /// The name of the kind.
        kind: String,
        /// The JSON text.
        json: String,
    },
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The content.
    pub content: Vec<Part>,
}
