#![no_main]

#[path = "../../tests/properties/checks/mod.rs"]
#[allow(dead_code, reason = "one check of many")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::partials::check(data);
});
