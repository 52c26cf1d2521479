//! Whether a part that the sidecar needs is there, since when, and if it is not, why: what an operator looks at first.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::UnixMs;

/// What is known of such a part.
#[derive(Debug, Default)]
pub struct Light(Mutex<Shown>);

/// The same at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Whether it is there; none before that is known.
    pub is_up: Option<bool>,
    /// Since when that is so.
    pub since: Option<UnixMs>,
    /// Why it is not there.
    pub why: Option<String>,
    /// When it was last heard of.
    pub heard: Option<UnixMs>,
    /// How long its last sign of life took.
    pub took: Option<Duration>,
}

impl Light {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is there now.
    pub fn up(&self) {
        let now = UnixMs::now();
        let mut shown = self.lock();
        if shown.is_up != Some(true) {
            *shown = Shown { is_up: Some(true), since: Some(now), ..Shown::default() };
        }
        shown.heard = Some(now);
    }

    /// It has answered after so long.
    pub fn took(&self, time: Duration) {
        self.lock().took = Some(time);
    }

    /// It is not there now.
    pub fn down(&self, why: &str) {
        let mut shown = self.lock();
        if shown.is_up != Some(false) {
            shown.is_up = Some(false);
            shown.since = Some(UnixMs::now());
        }
        (shown.why, shown.took) = (Some(why.to_owned()), None);
    }

    /// As it is now.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.lock().clone()
    }

    /// Why it is not there, if it is not.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.lock().why.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Light;

    #[test]
    fn since_when_changes_with_the_state_alone_and_why_with_each_word() {
        let light = Light::default();
        assert_eq!(light.shown().is_up, None);
        light.down("refused");
        let first = light.shown();
        light.down("silent");
        let then = light.shown();
        assert_eq!((then.is_up, then.since, then.why.as_deref()), (Some(false), first.since, Some("silent")));
        light.up();
        assert_eq!((light.shown().is_up, light.why()), (Some(true), None));
        assert!(light.shown().heard.is_some());
    }
}
