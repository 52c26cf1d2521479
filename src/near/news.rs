//! What clients are told of keys by the upstream: an invalidation, or an event of a key. It may come to them before the
//! near cache hears of the change over its own connection, and whoever is told of a change reads what it is about.

use super::Near;
use crate::keys::{begin_alike, literal_beginning, only_text};
use crate::resp::number::parse_i64;

/// To whoever is told by RESP2 what others have changed.
const INVALIDATE: &[u8] = b"__redis__:invalidate";

/// The strings of a message, one after the other, whatever arrays they are in.
fn strings(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        loop {
            let end = memchr::memchr(b'\n', rest)?;
            let (line, behind) = rest.split_at(end + 1);
            rest = behind;
            let length = line.strip_prefix(b"$").and_then(|length| parse_i64(length.trim_ascii_end()));
            if let Some(length) = length.and_then(|length| usize::try_from(length).ok()) {
                let (text, behind) = rest.split_at_checked(length)?;
                rest = behind;
                return Some(text);
            }
        }
    })
}

impl Near {
    /// A client is about to be told this by the upstream: what has changed by that is not answered as it was before.
    pub fn told(&self, message: &[u8]) {
        let mut said = strings(message);
        match said.next() {
            Some(b"invalidate") => self.invalidated(said),
            Some(b"message" | b"smessage") => self.published(said),
            Some(b"pmessage") => self.published(said.skip(1)),
            _ => {}
        }
    }

    fn published<'a>(&self, mut said: impl Iterator<Item = &'a [u8]>) {
        let Some(channel) = said.next() else { return };
        if channel == INVALIDATE {
            return self.invalidated(said);
        }
        let Some(event) = channel.strip_prefix(b"__key") else {
            // What else such an event names beside the key, and where, newer servers may change.
            if channel.starts_with(b"__subkey") {
                self.everything.change();
            }
            return;
        };
        let Some(end) = memchr::memmem::find(event, b"__:") else { return };
        let key = if event.starts_with(b"space@") { event.get(end + 3..) } else { said.next() };
        key.into_iter().for_each(|key| _ = self.end(key));
    }

    fn invalidated<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        if keys.inspect(|key| _ = self.end(key)).count() == 0 {
            self.everything.change();
        }
    }

    /// What was kept of the key holds no more; the block that it is of.
    pub(super) fn end(&self, key: &[u8]) -> Option<usize> {
        let block = self.block_of(key)?;
        self.words.at(self.words.place(key)).change();
        Some(block)
    }

    /// Somebody wants a key, or the keys that match a glob, to be forgotten: 1 for a key of a block; for a glob how
    /// many replies were kept of the blocks that may have such keys, all of which are forgotten.
    pub fn forget(&self, pattern: &[u8]) -> usize {
        if let Some(key) = only_text(pattern) {
            return usize::from(self.end(&key).is_some());
        }
        let start = literal_beginning(pattern);
        let meant = self.kept.iter().filter(|kept| begin_alike(start, &kept.block.prefix));
        let replies: Vec<usize> = meant.map(|kept| kept.memory.room().0).collect();
        if !replies.is_empty() {
            // Of what is on its way, too.
            self.everything.change();
        }
        replies.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::strings;

    #[test]
    fn the_strings_of_a_message_are_read_in_order() {
        for (message, expected) in [
            (&b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$4\r\nb\r\nc\r\n"[..], &["invalidate", "a", "b\r\nc"][..]),
            (b">2\r\n$10\r\ninvalidate\r\n_\r\n", &["invalidate"]),
            (b"3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n", &["message", "__redis__:invalidate"]),
            (b"*3\r\n$7\r\nmessage\r\n$0\r\n\r\n$9\r\ncut", &["message", ""]),
            (b"", &[]),
        ] {
            let told: Vec<_> = strings(message).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            assert_eq!(told, expected);
        }
    }
}
