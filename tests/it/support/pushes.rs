//! What a client that tracks its keys is told (CLIENT TRACKING, RESP3).

/// That any key may have changed.
pub const ALL: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// That this key has changed.
pub fn of_key(key: &str) -> String {
    format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${}\r\n{key}\r\n", key.len())
}

/// The keys that such a push names; `None` where it is about all.
pub fn named(push: &str) -> Option<Vec<&str>> {
    if push == ALL {
        return None;
    }
    let keys = push.strip_prefix(">2\r\n$10\r\ninvalidate\r\n*").unwrap_or_else(|| panic!("{push}"));
    Some(keys.split("\r\n").skip(2).step_by(2).collect())
}
