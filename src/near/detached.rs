//! Writes of this sidecar's clients: from before a write is sent until it has been answered nothing of its keys is
//! answered from memory, and nothing that was read meanwhile is kept.

use std::sync::Arc;

use super::Near;
use super::commands::{Changes, changes};
use super::words::Place;
use crate::command::{Request, Spec};
use crate::telemetry::planted::is_planted;

/// The keys that writes under way may change. Dropped when the writes have been answered, or never will be.
#[derive(Debug)]
pub struct Detached {
    near: Arc<Near>,
    places: Vec<Place>,
    /// How many of the writes may change whatever there is.
    everything: usize,
    /// What a reload has brought meanwhile, or was kept before it.
    beside: Option<Box<Self>>,
}

impl Detached {
    /// These and those of `other`.
    pub fn join(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.near, &other.near) {
            self.places.append(&mut other.places);
            self.everything += std::mem::take(&mut other.everything);
        } else if let Some(beside) = &mut self.beside {
            beside.join(other);
        } else {
            self.beside = Some(Box::new(other));
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| self.near.words.at(*place).end());
        (0..self.everything).for_each(|_| self.near.everything.end());
    }
}

impl Near {
    /// Nothing is answered from memory until what this gives is dropped.
    #[must_use]
    pub fn detach_everything(self: &Arc<Self>) -> Box<Detached> {
        self.everything.begin();
        Box::new(Detached { near: self.clone(), places: Vec::new(), everything: 1, beside: None })
    }

    /// Before `request` is sent, whose row of the command table is `spec`: what it may change is not answered from
    /// memory until what this gives is dropped. Nothing if it changes no kept key.
    #[must_use]
    pub fn detach(self: &Arc<Self>, request: &Request<'_>, spec: Option<&Spec>) -> Option<Box<Detached>> {
        let (changes, mut places) = (changes(request, spec), Vec::new());
        if is_planted("near-write-not-detached") {
            return None;
        }
        match (changes, spec) {
            (Changes::Nothing, _) => return None,
            (Changes::Keys, Some(spec)) => request.each_key(spec, |at| {
                if self.block_of(request.arg(at)).is_some() {
                    places.push(self.words.place(request.arg(at)));
                }
            }),
            _ => return Some(self.detach_everything()),
        }
        places.iter().for_each(|place| self.words.at(*place).begin());
        let changes_some = !places.is_empty();
        changes_some.then(|| Box::new(Detached { near: self.clone(), places, everything: 0, beside: None }))
    }
}
