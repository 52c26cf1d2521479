//! Mappings change over to other modes while clients are served (decision 0040): by an order, or by a reload.
//!
//! Invariants:
//! - while a mapping changes over, no request for its keys begins (`Modes::changing`), and when the first edition has
//!   been adopted, no write of it queues any more;
//! - the other mode is in force when every write that had queued has ended, and what waited in the journal is saved, or
//!   after `LIMIT`;
//! - nothing that was in memory, or was being loaded, before a mapping is owned again is served then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::check::Failure;
use super::mirroring::{Leave, Left, is_brought, noted};
use super::reload::Sidecar;
use super::serving::Serving;
use crate::config::Mode;
use crate::dispatch::{By, ModeOrder, Owned, Which};
use crate::errors;
use crate::inspect::mode_facts;
use crate::keys::MappingId;
use crate::mapping::{Kind, Mapping, Modes, Setting};
use crate::store::Word;
use crate::telemetry::audit::AuditLine;

/// So long other sidecars have to bring over what was written through them.
pub(super) const OTHERS: Duration = Duration::from_millis(300);

/// So often it is tried to bring everything back of a mapping that a reload takes away, with one look more.
const ATTEMPTS: usize = 4;

/// So long the store may take to pass it on.
const TELLING: Duration = Duration::from_secs(1);

/// Who is told of another mode, and who asked for it.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked<'w> {
    /// What the other sidecars of the store are told.
    word: Option<&'w Word>,
    /// Another sidecar asked for it, at this moment.
    by_other: Option<Instant>,
}

impl Sidecar {
    /// Does what somebody asks, says what is in force then, and tells the other sidecars of the store.
    pub(super) async fn obey(&mut self, serving: &Serving, order: ModeOrder) {
        let (settings, named) = match self.wanted(&order) {
            Ok(wanted) => wanted,
            Err(text) => {
                // Another sidecar may have mappings that this one has not. The client may have left.
                if let By::Client(reply) = order.by {
                    let _left = reply.send(Err(text));
                }
                return;
            }
        };
        let ModeOrder { which, mode, percent, by } = order;
        let mapping = if let Which::One(pattern) = which { Some(pattern) } else { None };
        let word = Word::Mode { mapping, mode, percent };
        let asked = match by {
            By::Client(_) => Asked { word: Some(&word), by_other: None },
            By::Other(_, at) => Asked { word: None, by_other: Some(at) },
            By::Again => Asked::default(),
        };
        let notes = self.change_over(serving, settings, asked).await;
        match by {
            By::Client(reply) => {
                let facts = mode_facts(&self.owned.mappings, &self.modes).into_iter().zip(named);
                let told = facts.filter(|(_, is_named)| *is_named).map(|(fact, _)| fact.noting(&notes));
                let _left = reply.send(Ok(told.collect()));
            }
            By::Other(..) => {
                let about = format!("MODE {} by the change feed", word.shown());
                self.metrics.audit.add(&AuditLine::of_the_sidecar(&about, &Ok::<(), &str>(())));
            }
            By::Again => {}
        }
    }

    /// Tells the other sidecars of the store; or what is to be known where that cannot be done.
    async fn tell_others(&self, word: Option<&Word>) -> Option<String> {
        let why = match tokio::time::timeout(TELLING, self.owned.store.say(word?)).await {
            Ok(Ok(is_said)) if is_said || self.owned.awaits.is_none() => return None,
            Ok(Ok(_)) => "the store was never there".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::info!(why, "other sidecars of the store are not told that mappings have another mode");
        Some(format!("other sidecars of the store were not told, ask each of them: {why}"))
    }

    /// The settings of all mappings, and which of them are named.
    fn wanted(&self, order: &ModeOrder) -> Result<(Vec<Setting>, Vec<bool>), String> {
        let ModeOrder { which, mode, percent, by } = order;
        let mappings = &self.owned.mappings.list;
        let is_named = |mapping: &Mapping| match which {
            Which::All => true,
            Which::One(pattern) => mapping.pattern.text() == pattern,
        };
        let named: Vec<bool> = mappings.iter().map(is_named).collect();
        if let (Which::One(pattern), false) = (which, named.contains(&true)) {
            return Err(errors::hearthside::no_mapping(pattern));
        }
        let is_outdated = |mapping: &Mapping| match by {
            By::Other(place, _) => self.owned.store.is_outdated(mapping.pattern.text(), *place),
            By::Client(_) | By::Again => false,
        };
        let mut settings = self.modes.settings();
        for ((setting, _), mapping) in settings.iter_mut().zip(&named).zip(mappings).filter(|((_, named), _)| **named) {
            if !is_outdated(mapping) {
                *setting = Setting { mode: *mode, percent: percent.unwrap_or(setting.percent) };
            }
        }
        Ok((settings, named))
    }

    /// Brings these settings into force, and tells the other sidecars of the store what they are asked; what is to be
    /// known of it.
    pub(super) async fn change_over(
        &mut self,
        serving: &Serving,
        mut settings: Vec<Setting>,
        asked: Asked<'_>,
    ) -> Vec<String> {
        let (before, mappings) = (self.modes.clone(), self.owned.mappings.clone());
        let differs = |mapping: &&Mapping| settings.get(mapping.id.index()) != Some(&before.setting(mapping.id));
        let changing: Vec<&Mapping> = mappings.list.iter().filter(differs).collect();
        let begun = Instant::now();
        // Where the upstream answers before and after there is nothing to wait for.
        let is_owned = |id: MappingId| before.owns_some(id) || settings[id.index()].owns_some();
        let cached: Vec<MappingId> = changing
            .iter()
            .filter(|mapping| mapping.kind == Kind::Cache && is_owned(mapping.id))
            .map(|mapping| mapping.id)
            .collect();
        if cached.is_empty() {
            let known = self.note_doubts(&changing, &before, &settings);
            if !changing.is_empty() {
                self.come_into_force(serving, settings).await;
            }
            self.log_changes(&changing, &before, (begun.elapsed(), None));
            return known.into_iter().chain(self.tell_others(asked.word).await).collect();
        }
        let done = CancellationToken::new();
        // Also where this is given up halfway, clients do not wait for ever.
        let _done = done.clone().drop_guard();
        serving.adopt(self.edition_in(&Arc::new(before.changing(&cached, done)))).await;
        let leave = Leave { before: &before, after: &settings, mappings: &cached, by_other: asked.by_other };
        let (left, untold) =
            tokio::join!(self.leave(serving, leave), self.tell_others_and_wait(asked.word, &before, &settings));
        for mapping in &mappings.list {
            let (was, setting) = (before.setting(mapping.id), &mut settings[mapping.id.index()]);
            let stays = left.is_some_and(|left| left.keeps(was.mode));
            if stays && is_brought(mapping, was.mode) && was.gives_up(*setting) {
                *setting = was;
            }
        }
        cached.iter().for_each(|mapping| self.owned.cache.forget_by_mode(*mapping));
        let known = self.note_doubts(&changing, &before, &settings);
        self.come_into_force(serving, settings).await;
        let left = match self.forget_given_up() {
            0 => left,
            _ => left.filter(|left| left.is_trouble()).or(Some(Left::Unbrought)),
        };
        self.log_changes(&changing, &before, (begun.elapsed(), left));
        left.map(|left| left.text().to_owned()).into_iter().chain(known).chain(untold).collect()
    }

    /// What is to be known of mappings that have other settings from now on, each of it once; the log names them.
    fn note_doubts(&self, changing: &[&Mapping], before: &Modes, after: &[Setting]) -> Vec<String> {
        let mut known = Vec::new();
        for mapping in changing {
            for note in self.doubts.notes(mapping, before.setting(mapping.id), after[mapping.id.index()]) {
                tracing::info!(mapping = mapping.pattern.text(), note, "something is to be known of a mapping's mode");
                if !known.contains(&note) {
                    known.push(note);
                }
            }
        }
        known.into_iter().map(str::to_owned).collect()
    }

    /// Mappings that a reload takes away give their keys back first, as if they were switched off.
    ///
    /// # Errors
    /// Not all that was taken from the upstream, or is to be mirrored, is there: then they are kept.
    pub(super) async fn give_back_what_goes(&mut self, serving: &Serving, new: &[Mapping]) -> Result<(), Failure> {
        let is_gone = |mapping: &&Mapping| new.iter().all(|other| other.pattern.text() != mapping.pattern.text());
        let mappings = self.owned.mappings.clone();
        for attempt in 1..=ATTEMPTS {
            let mut settings = self.modes.settings();
            let brought = |mapping: &&Mapping| is_brought(mapping, settings[mapping.id.index()].mode);
            let gone: Vec<&Mapping> = mappings.list.iter().filter(is_gone).filter(brought).collect();
            let gone: Vec<&Mapping> = gone.into_iter().filter(|it| self.modes.owns_some(it.id)).collect();
            let Some(first) = gone.first() else { return Ok(()) };
            if attempt == ATTEMPTS {
                let name = first.pattern.text();
                return Err(Failure::Start(format!(
                    "the mapping '{name}' is not taken away, because not all of its keys are at the upstream yet: \
                     reload again, or switch it off (HEARTHSIDE MODE) and look at what that says"
                )));
            }
            gone.iter().for_each(|mapping| settings[mapping.id.index()].mode = Mode::Off);
            self.change_over(serving, settings, Asked::default()).await;
        }
        Ok(())
    }

    /// From now on requests are routed by these settings.
    async fn come_into_force(&mut self, serving: &Serving, settings: Vec<Setting>) {
        self.modes = Arc::new(Modes::of(settings, self.modes.all_configured()));
        self.note_written(&self.owned);
        self.show_modes();
        serving.adopt(self.edition_in(&self.modes)).await;
    }

    /// Tells the others. Where they have something to bring to the upstream, they get a moment for that: it would come
    /// over what clients of this sidecar write there.
    async fn tell_others_and_wait(&self, word: Option<&Word>, before: &Modes, after: &[Setting]) -> Option<String> {
        let untold = self.tell_others(word).await;
        let brings = |mapping: &Mapping| {
            let setting = before.setting(mapping.id);
            is_brought(mapping, setting.mode) && setting.gives_up(after[mapping.id.index()])
        };
        if word.is_some() && untold.is_none() && self.owned.mappings.list.iter().any(brings) {
            tokio::time::sleep(OTHERS).await;
        }
        untold
    }

    fn log_changes(&self, changing: &[&Mapping], before: &Modes, (took, left): (Duration, Option<Left>)) {
        let trouble = left.filter(|left| left.is_trouble()).map(Left::text);
        let took_ms = took.as_millis() as u64;
        for mapping in changing {
            let (name, was, now) = (mapping.pattern.text(), before.setting(mapping.id), self.modes.setting(mapping.id));
            let (mode, percent, was) = (now.mode.name(), now.percent, was.mode.name());
            match trouble {
                None => tracing::info!(mapping = name, mode, percent, was, took_ms, "a mapping has another mode"),
                Some(why) => {
                    tracing::warn!(mapping = name, mode, percent, was, took_ms, why, "a mapping has another mode");
                }
            }
        }
    }

    /// Notes which keys are written through these mappings, as the modes in force want it, and which are owned.
    pub(super) fn note_written(&self, owned: &Owned) {
        owned.cache.is_in(&self.modes);
        let (mappings, modes) = (owned.mappings.clone(), self.modes.clone());
        owned
            .events
            .own(Box::new(move |key: &[u8]| mappings.keyspace.owner(key).is_some_and(|id| modes.owns(id, key))));
        owned.cache.note_written(&owned.mappings, noted(owned, &self.modes));
    }

    /// Shows which modes are in force, and keeps in mind what is not known of those that were.
    pub(super) fn show_modes(&mut self) {
        self.doubts.look(&self.owned.mappings.list, &self.modes);
        for mapping in &self.owned.mappings.list {
            let Setting { mode, percent } = self.modes.setting(mapping.id);
            self.metrics.mappings.of(mapping.pattern.text()).is_in(mode, percent);
            match mode {
                Mode::Shadow => self.metrics.shadow.show(mapping.pattern.text()),
                Mode::Fallback => self.metrics.fallback.show(mapping.pattern.text()),
                Mode::Off | Mode::On => {}
            }
        }
    }

    /// The modes of the mappings of a reload, before those of its file are in force: where a mapping was there before,
    /// the mode that it was in.
    pub(super) fn inherited_modes(&self, mappings: &[Mapping]) -> Arc<Modes> {
        let before = |mapping: &Mapping| {
            let is_same = |other: &&Mapping| other.pattern.text() == mapping.pattern.text();
            let known = self.owned.mappings.list.iter().find(is_same);
            known.map_or(Setting::configured(mapping), |known| self.modes.setting(known.id))
        };
        let configured = mappings.iter().map(Setting::configured).collect();
        Arc::new(Modes::of(mappings.iter().map(before).collect(), configured))
    }
}
