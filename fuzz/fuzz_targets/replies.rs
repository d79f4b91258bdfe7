#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agenthost_tests::fuzz::replies(bytes));
