//! What the upstream has of a mapping's keys, as records.

use bytes::Bytes;

use crate::record::{Record, Shape};
use crate::upstream::{Held, KeyServer, NotTold};

/// What the upstream has of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Theirs {
    Has(Record),
    Nothing,
    OtherType,
    /// Another server is to be asked.
    Elsewhere,
}

/// What a server has of these keys, in their order.
pub(super) async fn theirs(server: &mut KeyServer, shape: Shape, keys: &[Bytes]) -> Result<Vec<Theirs>, NotTold> {
    let (command, behind) = Record::asked_whole(shape);
    let held = server.read(command, behind, keys).await?;
    Ok(held.into_iter().map(|held| as_record(shape, held)).collect())
}

fn as_record(shape: Shape, held: Held) -> Theirs {
    match held {
        Held::Nothing => Theirs::Nothing,
        Held::OtherType => Theirs::OtherType,
        Held::Elsewhere => Theirs::Elsewhere,
        Held::Value(parts, left) => match Record::of_parts(shape, &parts) {
            Ok(Some(record)) => Theirs::Has(record.living(left)),
            Ok(None) => Theirs::Nothing,
            // No column could hold it.
            Err(_) => Theirs::OtherType,
        },
    }
}

/// The keys that a pattern matches, and perhaps more, as Redis matches: its literals, and a star for each placeholder.
pub(super) fn glob(literals: &[String]) -> Vec<u8> {
    let escaped = |literal: &String| {
        let mut glob = Vec::with_capacity(literal.len());
        for byte in literal.bytes() {
            if b"*?[]\\^-".contains(&byte) {
                glob.push(b'\\');
            }
            glob.push(byte);
        }
        glob
    };
    literals.iter().map(escaped).collect::<Vec<_>>().join(&b'*')
}

#[cfg(test)]
mod tests {
    use super::glob;
    use crate::keys::{Pattern, glob_match};

    #[test]
    fn a_glob_matches_what_its_pattern_does() {
        for (pattern, key) in [("h:{id:int}", "h:7"), ("a[{x}]:{y}?*", "a[1]:b?*"), ("{x}\\-^", "1\\-^")] {
            let pattern = Pattern::parse(pattern).expect("a pattern");
            assert!(pattern.matches(key.as_bytes()), "{key}");
            assert!(glob_match(&glob(&pattern.pieces().0), key.as_bytes()), "{key}");
        }
        assert_eq!(glob(&["h:".to_owned(), String::new()]), b"h:*");
        assert!(!glob_match(&glob(&["a[1]:".to_owned(), String::new()]), b"a1:x"), "a literal is one");
    }
}
