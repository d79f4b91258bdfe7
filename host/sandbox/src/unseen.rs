//! Detects components for which the engine may copy bytes at a guest's command that the host cannot count.
//!
//! Two things do so: the read and write built-ins of streams and futures, and the string adapters between the parts of
//! a composed component. Compilers produce neither for a single plugin. A component that has either pays for each
//! built-in as if it copied all its memory; see [`hostcalls`](super::hostcalls).

use wasmparser::{CanonicalFunction, Parser, Payload};

/// Returns whether `component` has stream or future built-ins, or parts that call each other.
pub(super) fn copies_unseen(component: &[u8]) -> bool {
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::ComponentSection { .. } | Payload::ModuleSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentCanonicalSection(functions)) => {
                for function in functions {
                    match function {
                        Ok(
                            CanonicalFunction::StreamRead { .. }
                            | CanonicalFunction::StreamWrite { .. }
                            | CanonicalFunction::FutureRead { .. }
                            | CanonicalFunction::FutureWrite { .. },
                        ) => return true,
                        // A nested component that lifts a function does so for another part to call.
                        Ok(CanonicalFunction::Lift { .. }) if depth > 0 => return true,
                        Ok(_) => {}
                        Err(_) => return true,
                    }
                }
            }
            Ok(_) => {}
            // It does not compile either.
            Err(_) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &str = r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))"#;

    fn of(text: &str) -> bool {
        copies_unseen(&wat::parse_str(text).unwrap())
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
}
