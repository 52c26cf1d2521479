//! `upstream.tls_verify`: what a `rediss://` server must prove.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a server's certificate must prove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVerify {
    /// An authority vouches for it, and for the name that is connected to.
    #[default]
    Full,
    /// An authority vouches for it, whatever its name is.
    Ca,
    /// It is the certificate with this SHA-256 of its DER form, whoever vouches for it.
    Fingerprint([u8; 32]),
    /// Nothing.
    None,
}

const FINGERPRINT: &str = "fingerprint:";

/// Reads a SHA-256 of 64 hexadecimal digits.
#[must_use]
pub fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect();
    (digits.len() == 64).then(|| bytes.try_into().ok()).flatten()
}

impl TlsVerify {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "full" => Some(Self::Full),
            "ca" => Some(Self::Ca),
            "none" => Some(Self::None),
            // The whole line that openssl prints will do, with colons between bytes.
            _ => digest(&text.strip_prefix(FINGERPRINT)?.rsplit('=').next()?.replace(':', "")).map(Self::Fingerprint),
        }
    }
}

impl fmt::Display for TlsVerify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Ca => f.write_str("ca"),
            Self::None => f.write_str("none"),
            Self::Fingerprint(bytes) => {
                f.write_str(FINGERPRINT)?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl Serialize for TlsVerify {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TlsVerify {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            let wanted = "expected \"full\", \"ca\", \"none\", or \"fingerprint:\" and the SHA-256 of the server's \
                certificate, 64 hexadecimal digits (openssl x509 -in server.pem -noout -fingerprint -sha256)";
            serde::de::Error::custom(wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::TlsVerify;

    #[test]
    fn reads_and_writes_what_a_server_must_prove() {
        let with_colons = format!("fingerprint:{}", ["AB"; 32].join(":"));
        let fingerprint = TlsVerify::Fingerprint([0xab; 32]);
        let as_printed = with_colons.replace("fingerprint:", "fingerprint:sha256 Fingerprint=");
        for text in [with_colons, as_printed] {
            assert_eq!(TlsVerify::parse(&text), Some(fingerprint), "{text}");
        }
        for verify in [TlsVerify::Full, TlsVerify::Ca, TlsVerify::None, fingerprint] {
            assert_eq!(TlsVerify::parse(&verify.to_string()), Some(verify));
        }
        for wrong in ["", "yes", "fingerprint:", "fingerprint:abcd", "fingerprint:zz"] {
            assert_eq!(TlsVerify::parse(wrong), None, "{wrong}");
        }
    }
}
