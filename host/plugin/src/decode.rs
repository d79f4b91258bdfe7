//! Decoding the types of a component with the library for it.
//!
//! The library panics on some damaged components. Such a panic is an error like any other.

use std::cell::Cell;
use std::panic::catch_unwind;

use wit_component::DecodedWasm;

use crate::error::ComponentError;

thread_local! {
    static IS_DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread is decoding a component, so that a panic is about the component and becomes an error. A
/// panic hook can leave it out.
#[doc(hidden)]
pub fn is_decoding() -> bool {
    IS_DECODING.get()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedWasm, ComponentError> {
    IS_DECODING.set(true);
    let decoded = catch_unwind(|| wit_component::decode(bytes));
    IS_DECODING.set(false);
    match decoded {
        Ok(decoded) => decoded.map_err(|error| ComponentError::broken(error.root_cause())),
        Err(_) => Err(ComponentError::broken(
            "its types refer to each other in a circle or to nothing",
        )),
    }
}
