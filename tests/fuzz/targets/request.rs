//! The request scan: what comes in two parts means what it means as a whole, and no argument lies outside of what came.
#![no_main]

use hearthside::resp::request::{RequestScanner, Scan};
use libfuzzer_sys::fuzz_target;

fn found(bytes: &[u8], split: usize) -> Vec<String> {
    let (mut scanner, mut at, mut here, mut found) = (RequestScanner::new(1 << 20, 1000), 0, split, Vec::new());
    loop {
        match scanner.scan(&bytes[at..here]) {
            Ok(Scan::Incomplete) if here < bytes.len() => here = bytes.len(),
            Ok(Scan::Incomplete) => return found,
            Ok(Scan::Complete(length)) => {
                assert!(length > 0 && at + length <= here && scanner.spans().iter().all(|span| span.end <= length));
                found.push(format!("{:?}", scanner.spans()));
                at += length;
            }
            Ok(Scan::Inline(length, words)) => {
                found.push(format!("{words:?}"));
                at += length;
            }
            Ok(Scan::Empty(length)) => at += length,
            Err(fault) => {
                found.push(fault.to_string());
                return found;
            }
        }
    }
}

fuzz_target!(|input: (u16, &[u8])| {
    let (split, bytes) = input;
    assert_eq!(found(bytes, usize::from(split) % (bytes.len() + 1)), found(bytes, bytes.len()));
});
