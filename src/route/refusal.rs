//! Why a request is refused instead of routed.

use crate::telemetry::refusals::By;

/// An error instead of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is answered, from the error's first word on.
    pub text: String,
    /// Who does not permit the request, if it is that. It is counted then.
    pub by: Option<By>,
}

impl Refusal {
    /// A request that somebody does not permit.
    #[must_use]
    pub fn by(by: By, text: impl Into<String>) -> Self {
        Self { text: text.into(), by: Some(by) }
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { text, by: None }
    }
}

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}
