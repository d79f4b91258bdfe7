//! All guests as modules, for the lints and for editors.
//!
//! A guest is a file in this crate's folder, named after the behavior that it shows. Tests run it as a component:
//! `agenthost_tests::guests` builds each file as a crate of its own.

include!(concat!(env!("OUT_DIR"), "/guests.rs"));
