//! What a collector answers: how many spans of a request it refused, and how long it wants to be left alone.

use std::time::Duration;

use opentelemetry_http::{Bytes, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use crate::telemetry::cut;

/// A collector that asks for a longer rest is asked again after this.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Bytes that are kept of what a collector says.
const SAID: usize = 256;

/// What it took of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Spans that it refused although it took the others.
    pub(super) rejected: u64,
    /// What it said of them.
    pub(super) said: String,
}

/// It took nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// How long it wants to be left alone.
    pub(super) rest: Option<Duration>,
}

/// The answer of a collector that took at least some of the spans.
/// Source: <https://opentelemetry.io/docs/specs/otlp/#partial-success>
pub(super) fn of_success(body: &[u8]) -> Answer {
    let told = ExportTraceServiceResponse::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
    let said = cut(&told.error_message, SAID).to_owned();
    Answer { rejected: u64::try_from(told.rejected_spans).unwrap_or(0), said }
}

/// How long it asks to be left alone, where it says so in seconds.
/// Source: <https://opentelemetry.io/docs/specs/otlp/#otlphttp-throttling>
pub(super) fn rest(response: &Response<Bytes>) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry_http::{Bytes, Response};

    use super::{Answer, of_success, rest};

    #[test]
    fn what_is_no_partial_success_is_a_whole_one() {
        for body in [&b""[..], b"\xff\xff\xff", b"<html>", b"\x0a\x00"] {
            assert_eq!(of_success(body), Answer::default());
        }
        let partly = of_success(b"\x0a\x08\x08\x03\x12\x04full");
        assert_eq!(partly, Answer { rejected: 3, said: "full".into() });
        let less_than_none = of_success(b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        assert_eq!(less_than_none.rejected, 0);
    }

    #[test]
    fn a_rest_is_given_in_seconds_and_bounded() {
        let of = |value: &str| {
            let response = Response::builder().header("Retry-After", value).body(Bytes::new()).expect("a response");
            rest(&response)
        };
        assert_eq!((of("7"), of("86400")), (Some(Duration::from_secs(7)), Some(Duration::from_secs(30))));
        assert_eq!((of("Wed, 21 Oct 2026 07:28:00 GMT"), of("-1")), (None, None));
    }
}
