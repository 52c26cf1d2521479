//! The reply scan: frames end at the same places however the bytes come.
#![no_main]

use hearthside::resp::reply::ReplyScanner;
use libfuzzer_sys::fuzz_target;

/// Where frames end, and how it ends.
fn ends(bytes: &[u8], split: usize) -> (Vec<usize>, bool) {
    let (mut scanner, mut scanned, mut here, mut ends) = (ReplyScanner::default(), 0, split, Vec::new());
    loop {
        let Ok(step) = scanner.scan(&bytes[scanned..here]) else { return (ends, false) };
        assert!(scanned + step.used <= here);
        scanned += step.used;
        match step.end {
            Some(_) => ends.push(scanned),
            None if here < bytes.len() => here = bytes.len(),
            None => return (ends, true),
        }
    }
}

fuzz_target!(|input: (u16, &[u8])| {
    let (split, bytes) = input;
    assert_eq!(ends(bytes, usize::from(split) % (bytes.len() + 1)), ends(bytes, bytes.len()));
    if let Some(end) = ends(bytes, bytes.len()).0.first() {
        let _elements = hearthside::resp::reply::elements(&bytes[..*end]);
    }
});
