//! Detects components for which the engine may copy bytes at a guest's command that the host cannot count.
//!
//! Two things do so: the read and write built-ins of streams and futures, and the string adapters between the parts of
//! a composed component. Compilers produce neither for a single plugin. A component that has either pays for each
//! built-in as if it copied all its memory; see [`hostcalls`](super::hostcalls).

use wasmparser::{CanonicalFunction, CanonicalOption, Parser, Payload};

/// The work that a built-in can do on its component's memory without the host seeing how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum UnseenWork {
    /// None.
    #[default]
    None,
    /// Copies bytes.
    Copies,
    /// Copies strings from one encoding to another.
    Transcodes,
}

impl UnseenWork {
    /// Returns the work that `component` can make the engine do.
    pub(super) fn of(component: &[u8]) -> Self {
        let mut depth = 0_u32;
        let (mut copies, mut encodes) = (false, false);
        for payload in Parser::new(0).parse_all(component) {
            match payload {
                Ok(Payload::ComponentSection { .. } | Payload::ModuleSection { .. }) => depth += 1,
                Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
                Ok(Payload::ComponentCanonicalSection(functions)) => {
                    for function in functions {
                        // A function that cannot be read does not compile either.
                        let Ok(function) = function else {
                            return Self::Transcodes;
                        };
                        copies |= match &function {
                            CanonicalFunction::StreamRead { .. }
                            | CanonicalFunction::StreamWrite { .. }
                            | CanonicalFunction::FutureRead { .. }
                            | CanonicalFunction::FutureWrite { .. } => true,
                            // A part that lifts a function of its own does so for another part to call.
                            CanonicalFunction::Lift { .. } => depth > 0,
                            _ => false,
                        };
                        encodes |= has_other_encoding(&function);
                    }
                }
                Ok(_) => {}
                Err(_) => return Self::Transcodes,
            }
        }
        match (copies, encodes) {
            (false, _) => Self::None,
            (true, false) => Self::Copies,
            (true, true) => Self::Transcodes,
        }
    }
}

/// Returns whether the strings of `function` have an encoding other than UTF-8.
fn has_other_encoding(function: &CanonicalFunction) -> bool {
    let options = match function {
        CanonicalFunction::Lift { options, .. }
        | CanonicalFunction::Lower { options, .. }
        | CanonicalFunction::TaskReturn { options, .. } => options,
        _ => return false,
    };
    options
        .iter()
        .any(|option| matches!(option, CanonicalOption::UTF16 | CanonicalOption::CompactUTF16))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &str = r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))"#;

    fn work(text: &str) -> UnseenWork {
        UnseenWork::of(&wat::parse_str(text).unwrap())
    }

    fn of(text: &str) -> bool {
        work(text) != UnseenWork::None
    }

    #[test]
    fn streams_and_composed_parts_are_found() {
        let lift = r#"(func (export "f") (canon lift (core func $i "f")))"#;
        assert!(!of(&format!("(component {CORE} {lift})")));
        assert!(of(&format!("(component (component {CORE} {lift}))")));
        assert!(!of(&format!("(component (component $c {CORE}) {CORE} {lift})")));
        let stream =
            "(type $s (stream u8)) (core module $mem (memory (export \"m\") 1)) (core instance $h (instantiate $mem))";
        assert!(of(&format!(
            "(component {CORE} {stream} (core func (canon stream.read $s async (memory (core memory $h \"m\")))) {lift})"
        )));
        assert!(!of(&format!(
            "(component {CORE} {stream} (core func (canon stream.new $s)) {lift})"
        )));
    }

    #[test]
    fn a_composed_component_with_another_encoding_transcodes() {
        let memory = r#"(core module $m (memory (export "m") 1) (func (export "f") (param i32 i32))
            (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable)) (core instance $i (instantiate $m))"#;
        let lift = |encoding: &str| {
            format!(
                r#"(func (export "f") (param "s" string) (canon lift (core func $i "f") (memory (core memory $i "m"))
                    (realloc (core func $i "r")) {encoding}))"#
            )
        };
        let part = |encoding: &str| format!("(component {memory} {})", lift(encoding));
        assert_eq!(work(&format!("(component {})", part(""))), UnseenWork::Copies);
        for encoding in ["string-encoding=utf16", "string-encoding=latin1+utf16"] {
            assert_eq!(work(&format!("(component {})", part(encoding))), UnseenWork::Transcodes);
            assert_eq!(work(&part(encoding)), UnseenWork::None);
        }
    }
}
