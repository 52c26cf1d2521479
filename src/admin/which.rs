//! The key that a request names. A key is any bytes, so it is not read as text.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use percent_encoding::percent_decode_str;

/// What is asked about: `?key=<key or glob>`.
#[derive(Debug)]
pub(super) struct Which {
    pub(super) key: Bytes,
}

impl Which {
    /// That of an address, percent-encoded there; a plus is a space, as in forms.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let mut parts = uri.query()?.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
        let (_, value) = parts.find(|(name, _)| *name == "key")?;
        let value = value.replace('+', " ");
        Some(Self { key: Bytes::from(percent_decode_str(&value).collect::<Vec<u8>>()) })
    }
}

impl<S: Sync> FromRequestParts<S> for Which {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Self::of(&parts.uri).ok_or((StatusCode::BAD_REQUEST, "key: say which, as in ?key=user:1, percent-encoded\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::Which;

    #[test]
    fn a_key_is_any_bytes() {
        let of = |uri: &'static str| Which::of(&uri.parse().expect("an address")).map(|which| which.key);
        assert_eq!(of("/api/key?key=user%3A1&plan").as_deref(), Some(&b"user:1"[..]));
        assert_eq!(of("/api/key?plan&key=%ff%00+%2B").as_deref(), Some(&b"\xff\x00 +"[..]));
        assert_eq!(of("/api/key?key=").as_deref(), Some(&b""[..]));
        assert_eq!(of("/api/key?other=1"), None);
        assert_eq!(of("/api/key"), None);
    }
}
