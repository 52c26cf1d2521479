//! The exporter's HTTP client, which remembers why a request has failed, and what was answered: the exporter itself
//! tells only that it has failed.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

use super::answer::{self, Answer};

/// What the last request told.
#[derive(Clone, Debug, Default)]
pub(super) struct LastRequest(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
pub(super) struct Told {
    /// Why it has failed before there was an answer.
    pub(super) failure: Option<String>,
    /// How long the collector wants to be left alone.
    pub(super) rest: Option<Duration>,
    /// What the collector took.
    pub(super) answer: Answer,
}

impl LastRequest {
    pub(super) fn take(&self) -> Told {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn told(&self, sent: &Result<Response<Bytes>, HttpError>) {
        let told = match sent {
            Err(error) => Told { failure: Some(in_words(&**error)), ..Told::default() },
            Ok(response) if response.status().is_success() => {
                Told { answer: answer::of_success(response.body()), ..Told::default() }
            }
            Ok(response) => Told { rest: answer::rest(response), ..Told::default() },
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

/// The client, and where it tells.
#[derive(Debug)]
pub(super) struct TellingClient<C> {
    pub(super) client: C,
    pub(super) last: LastRequest,
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
            self.last.told(&sent);
            sent
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
