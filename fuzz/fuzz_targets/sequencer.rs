#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zlay_fuzz::run("sequencer", bytes));
