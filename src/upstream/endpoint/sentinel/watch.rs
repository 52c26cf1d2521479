//! The watch over the sentinels of one `upstream.url`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::answer::Answer;
use super::council::Council;
use super::event::Stage;
use super::listener::{Listener, Report};
use super::members::{MOST, Member, Members};
use crate::telemetry::{LastingPart, LogThrottle, caught};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::target::Host;
use crate::upstream::endpoint::topology::Sentinels;

/// A failover takes about a second from where commands are held back for it to the new master.
const HELD_AT_MOST: Duration = Duration::from_secs(3);
/// Reports that may wait; the listeners wait with more.
const REPORTS: usize = 64;

pub(super) struct Watch<'a> {
    endpoint: &'a Arc<Endpoint>,
    sentinels: &'a Sentinels,
    /// The topology's number.
    number: u64,
    council: &'a mut Council,
    members: Members,
    listeners: JoinSet<()>,
    reports: (Sender<Report>, Receiver<Report>),
    /// Until when commands wait for the master that takes the place of this one.
    held: Option<(Instant, Host)>,
    /// Log lines about sentinels beyond the limit.
    too_many: LogThrottle,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        endpoint: &'a Arc<Endpoint>,
        sentinels: &'a Sentinels,
        number: u64,
        council: &'a mut Council,
    ) -> Self {
        let mut watch = Self {
            endpoint,
            sentinels,
            number,
            council,
            members: Members::default(),
            listeners: JoinSet::new(),
            reports: channel(REPORTS),
            held: None,
            too_many: LogThrottle::default(),
        };
        sentinels.hosts.iter().for_each(|host| watch.listen_to(host.clone(), None));
        watch
    }

    /// An id that others told of; none for one of `upstream.url`.
    fn listen_to(&mut self, host: Host, id: Option<String>) {
        let listener = Listener {
            target: self.sentinels.sentinel(host.clone()),
            host: host.clone(),
            service: self.sentinels.service.clone(),
            endpoint: self.endpoint.clone(),
            reports: self.reports.0.clone(),
        };
        let panics = self.endpoint.panics.clone();
        let listener = self.listeners.spawn(async move {
            caught(LastingPart::Sentinels, &panics, listener.run()).await;
        });
        let is_configured = self.sentinels.hosts.contains(&host);
        self.members.0.insert(host, Member { id, is_configured, others: Vec::new(), replicas: Vec::new(), listener });
    }

    /// Runs for ever.
    pub(super) async fn run(&mut self) {
        loop {
            self.tell_counts();
            let held_until = self.held.as_ref().map(|(until, _)| *until);
            tokio::select! {
                () = sleep_until(held_until.unwrap_or_else(Instant::now).into()), if held_until.is_some() => {
                    self.give_up();
                }
                Some(report) = self.reports.1.recv() => match report {
                    Report::Says(host, answer) => self.hear(&host, answer),
                    Report::IsSilent(host, why) => self.miss(&host, why),
                    Report::Failover(stage, master) => self.prepare(stage, master),
                },
                Some(Ok((task, ()))) = self.listeners.join_next_with_id() => {
                    // It ended in a panic: what it said last may be old.
                    if let Some(host) = self.members.heard_by(task).cloned() {
                        self.council.forget(&host);
                        self.listen_to(host, None);
                    }
                }
            }
        }
    }

    fn hear(&mut self, host: &Host, answer: Answer) {
        if self.members.is_another(host, answer.id.as_deref()) {
            return self.dismiss(host);
        }
        let Some(member) = self.members.0.get_mut(host) else { return };
        member.id = answer.id.or(member.id.take());
        member.replicas = answer.replicas;
        member.others = answer.others.iter().map(|(other, _)| other.clone()).collect();
        let is_configured = member.is_configured;
        self.council.hear(host, Ok(answer.view));
        for twin in self.members.twins(host) {
            match self.members.0.get(&twin) {
                Some(twin) if twin.is_configured && is_configured => {}
                Some(other) if other.is_configured && self.council.hears(&twin) => return self.dismiss(host),
                Some(other) if other.is_configured => {}
                _ => self.dismiss(&twin),
            }
        }
        answer.others.into_iter().for_each(|(other, id)| self.learn(other, id));
        let hears = |host: &Host| self.council.hears(host);
        self.endpoint.replicas.are_told(self.members.replicas(hears));
        self.members.gone(|host| self.council.hears(host)).iter().for_each(|host| self.dismiss(host));
        self.decide();
    }

    /// One that another one tells of.
    fn learn(&mut self, host: Host, id: String) {
        if self.members.0.contains_key(&host) {
            return;
        }
        if let Some(place) = self.members.place_of(&id).cloned() {
            if self.council.hears(&place) {
                return;
            }
            if !self.sentinels.hosts.contains(&place) {
                self.dismiss(&place);
            }
        }
        if self.members.0.len() < MOST {
            return self.listen_to(host, Some(id));
        }
        if self.too_many.due().is_some() {
            tracing::warn!(
                service = self.sentinels.service,
                "more sentinels are known than are listened to (32); remove those that are gone (SENTINEL RESET)"
            );
        }
    }

    /// It is listened to no more.
    fn dismiss(&mut self, host: &Host) {
        if let Some(member) = self.members.0.remove(host) {
            member.listener.abort();
        }
        self.council.forget(host);
    }

    fn miss(&mut self, host: &Host, why: String) {
        if !self.members.0.contains_key(host) {
            return;
        }
        let was_heard = self.council.answering() > 0;
        self.council.hear(host, Err(why));
        let why = self.council.reasons().join("; ");
        self.endpoint.location.note_why(self.number, self.sentinels.no_master(&why));
        if was_heard && self.council.answering() == 0 {
            tracing::warn!(
                service = self.sentinels.service,
                why,
                "no sentinel answers; the last master stays in use, and a failover is noticed when one answers again"
            );
        }
        self.decide();
    }

    /// Another master may be the right one now.
    fn decide(&mut self) {
        let was_rejected = self.council.rejected().cloned();
        let (known, size) = (self.members.0.len(), self.members.size());
        let Some(host) = self.council.verdict(known, size, Instant::now()) else { return };
        if let Some(other) = self.council.rejected()
            && was_rejected.as_ref() != Some(other)
        {
            tracing::warn!(
                service = self.sentinels.service,
                %other,
                master = %host,
                "most sentinels name another master, of no newer configuration; it is taken if they still do in ten \
                 seconds"
            );
        }
        let master = self.sentinels.master(host);
        let name = master.name();
        if self.endpoint.is_led_to(self.number, master) {
            self.held = None;
            self.endpoint.metrics.sentinels.masters.inc();
            tracing::info!(service = self.sentinels.service, master = name, "the sentinels name the master");
        }
    }

    /// A write that is answered by a master that is about to be deposed would be lost: commands wait for the new one.
    fn prepare(&mut self, stage: Stage, host: Host) {
        let (location, master) = (&self.endpoint.location, self.sentinels.master(host.clone()));
        match stage {
            Stage::Begins => {
                if location.hold(self.number, &master, HELD_AT_MOST)
                    && self.held.replace((Instant::now() + HELD_AT_MOST, host)).is_none()
                {
                    tracing::info!(
                        service = self.sentinels.service,
                        "a failover is under way: commands wait for the new master, for three seconds at most"
                    );
                }
            }
            Stage::Fails => self.give_up(),
        }
    }

    /// Nobody has taken the master's place: commands go on to it.
    fn give_up(&mut self) {
        if let Some((_, host)) = self.held.take() {
            tracing::warn!(
                service = self.sentinels.service,
                "the failover has brought no other master in time; commands go on to the last one"
            );
            self.endpoint.location.release(self.number, &self.sentinels.master(host));
        }
    }

    fn tell_counts(&self) {
        let metrics = &self.endpoint.metrics.sentinels;
        metrics.known.set(self.members.0.len() as i64);
        metrics.answering.set(self.council.answering() as i64);
    }

    /// `upstream.url` leads somewhere else.
    pub(super) fn end(self) {
        let metrics = &self.endpoint.metrics.sentinels;
        metrics.known.set(0);
        metrics.answering.set(0);
    }
}
