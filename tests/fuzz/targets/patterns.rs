//! Key patterns and globs: what a pattern captures, rendered again, is the key; two that match one key overlap.
#![no_main]

use hearthside::keys::{Pattern, glob_match};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (one, other, key) = input;
    let _matches = glob_match(one.as_bytes(), key);
    let Ok(one) = Pattern::parse(one) else { return };
    let captured = one.captures(key);
    assert_eq!(captured.is_some(), one.matches(key));
    let Some(values) = captured else { return };
    assert_eq!(values.len(), one.placeholders().count());
    assert_eq!(one.render(&values).as_deref(), Some(key));
    if let Ok(other) = Pattern::parse(other)
        && other.matches(key)
    {
        assert!(one.overlaps(&other) && other.overlaps(&one), "{} and {}", one.text(), other.text());
    }
});
