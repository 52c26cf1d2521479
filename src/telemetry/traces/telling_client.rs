//! The exporter's HTTP client, which remembers why a request has failed: the exporter itself tells only that it has.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

/// What it was that failed last.
#[derive(Clone, Debug, Default)]
pub(super) struct LastFailure(Arc<Mutex<Option<String>>>);

impl LastFailure {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is(&self, error: &HttpError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(in_words(&**error));
    }
}

/// The client, and where it tells.
#[derive(Debug)]
pub(super) struct TellingClient<C> {
    pub(super) client: C,
    pub(super) failure: LastFailure,
}

type Sending<'s> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 's>>;

impl<C: HttpClient> HttpClient for TellingClient<C> {
    fn send_bytes<'c, 's>(&'c self, request: Request<Bytes>) -> Sending<'s>
    where
        'c: 's,
        Self: 's,
    {
        Box::pin(async move {
            let sent = self.client.send_bytes(request).await;
            sent.inspect_err(|error| self.failure.is(error))
        })
    }
}

/// An error with what brought it about, each told once.
fn in_words(error: &(dyn Error + 'static)) -> String {
    let (mut words, mut next) = (error.to_string(), error.source());
    while let Some(error) = next {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        next = error.source();
    }
    words
}
