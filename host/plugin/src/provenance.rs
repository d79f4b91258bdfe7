//! The builder's record of a component's origin: tools, source revision, lock file.
//!
//! It is not trusted, like everything that a file contains about itself: anyone can write anything there. It describes
//! how to rebuild the component, and a rebuild shows whether it is true. It contains no machine name, user name,
//! directory or time, so two builds of one revision with the same tools have the same record.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::Digest;

/// The record that `agenthost build --release` embeds. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of this format: 1.
    pub format: u32,
    /// The compiler, as `rustc -V` prints it.
    pub rustc: String,
    /// The host platform of the compiler, such as `x86_64-unknown-linux-gnu`: compilers for different platforms produce
    /// different bytes.
    pub host: String,
    /// The version of cargo, as `cargo -V` prints it.
    pub cargo: String,
    /// The version of agenthost, which adds metadata.
    pub agenthost: String,
    /// The compile target.
    pub target: String,
    /// Cargo's profile.
    pub profile: String,
    /// The SHA-256 of `Cargo.lock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Digest>,
    /// The source; `None` if the crate is not in a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A crate in a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The commit that was checked out: 40 or 64 hexadecimal digits.
    pub revision: String,
    /// The directory of the crate below the repository's root, with slashes; empty for the root itself.
    pub path: String,
    /// `true` if the build's input differs from that commit.
    pub dirty: bool,
}

/// The maximum length of one text in bytes: a line of a compiler's version has 40.
const MAX_TEXT: usize = 500;

impl Provenance {
    /// The newest format that this version reads.
    pub const FORMAT: u32 = 1;

    /// Parses the embedded JSON.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format != u64::from(Self::FORMAT) => {
                return Err(format!(
                    "it has format {format}, and this version reads {}",
                    Self::FORMAT
                ));
            }
            _ => {}
        }
        let read: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), String> {
        let texts = [
            &self.rustc,
            &self.host,
            &self.cargo,
            &self.agenthost,
            &self.target,
            &self.profile,
        ];
        let path = self.source.as_ref().map(|source| &source.path);
        for text in texts.into_iter().chain(path) {
            if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                return Err(format!(
                    "`{}` is not a plain line",
                    text.escape_debug().take(60).collect::<String>()
                ));
            }
        }
        let Some(source) = &self.source else { return Ok(()) };
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if ![40, 64].contains(&source.revision.len()) || !source.revision.bytes().all(digit) {
            return Err(format!(
                "`{}` is not a git commit",
                source.revision.escape_debug().take(80).collect::<String>()
            ));
        }
        if source.path.starts_with('/') || source.path.split('/').any(|part| part == "..") {
            return Err(format!("{} is not a directory of a repository", source.path));
        }
        Ok(())
    }

    /// Formats the tools in one line: `rustc 1.95.0 (59807616e 2026-04-14) on x86_64-unknown-linux-gnu, cargo 1.95.0
    /// (f2d3ce0bd 2026-03-21), agenthost 0.1.0`.
    pub fn tools(&self) -> String {
        format!(
            "{} on {}, {}, agenthost {}",
            self.rustc, self.host, self.cargo, self.agenthost
        )
    }

    /// Formats the source in one line: the commit, the directory in it, and whether there were changes.
    pub fn revision(&self) -> String {
        let Some(source) = &self.source else {
            return "not in a git repository".into();
        };
        let path = match source.path.as_str() {
            "" => String::new(),
            path => format!(", {path}"),
        };
        let changes = if source.dirty { ", with changes" } else { "" };
        format!("{}{path}{changes}", source.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_stranger_wrote_is_checked() {
        let good = json!({
            "format": 1, "rustc": "rustc 1.95.0 (x)", "host": "h", "cargo": "cargo 1.95.0", "agenthost": "0.1.0",
            "target": "wasm32-wasip2", "profile": "release", "of-later": true,
            "source": {"revision": "a".repeat(40), "path": "plugins/x", "dirty": true},
        });
        let parse = |value: &Value| Provenance::parse(value.to_string().as_bytes());
        let read = parse(&good).unwrap();
        assert_eq!(read.revision(), format!("{}, plugins/x, with changes", "a".repeat(40)));
        assert_eq!(read.tools(), "rustc 1.95.0 (x) on h, cargo 1.95.0, agenthost 0.1.0");
        for (pointer, wrong, says) in [
            ("/format", json!(2), "it has format 2"),
            ("/format", json!("1"), "invalid type"),
            (
                "/rustc",
                json!("rustc\u{1b}[2J"),
                "`rustc\\u{1b}[2J` is not a plain line",
            ),
            ("/cargo", json!("x".repeat(501)), "is not a plain line"),
            ("/source/revision", json!("HEAD"), "`HEAD` is not a git commit"),
            ("/source/revision", json!("A".repeat(40)), "is not a git commit"),
            ("/source/path", json!("../x"), "../x is not a directory of a repository"),
            ("/source/path", json!("/x"), "/x is not a directory of a repository"),
            ("/source", json!(7), "invalid type"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = wrong;
            let why = parse(&bad).unwrap_err();
            assert!(why.contains(says), "{pointer}: {why}");
        }
        assert!(Provenance::parse(b"{").is_err());
    }
}
