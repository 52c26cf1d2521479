//! Inline requests: what was split, quoted again and split again is the same.
#![no_main]

use hearthside::resp::inline::split_inline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let Ok(words) = split_inline(line) else { return };
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("\"{}\"", word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>()))
        .collect();
    assert_eq!(split_inline(quoted.join(" ").as_bytes()), Ok(words));
});
