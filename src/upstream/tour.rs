//! A way around a cluster that passes every key: one master after the other, and then once more the slots that were on
//! their way meanwhile (decision 0036).

use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::endpoint::cluster::history::Standing;
use super::endpoint::cluster::note_views;
use super::endpoint::cluster::redirect::PAUSE;
use super::pipeline::batch::{Batch, Stop, To};
use super::pipeline::cluster::ClusterLane;
use super::pipeline::lane_ticket::Broken;
use super::{Account, Login};
use super::{Group, Lane, Upstream};
use crate::errors;
use crate::resp::{Proto, decode, encode, reply};

/// One way around: the masters that there were when it began.
#[derive(Debug)]
pub struct Tour {
    /// The last note of who owns what before it began.
    since: u64,
    /// The masters, by their numbers.
    masters: Vec<u32>,
}

impl Tour {
    /// Begins now, for the client of this lane; `None` where there is no cluster.
    #[must_use]
    pub fn begin(lane: &Lane) -> Option<Self> {
        let (since, masters) = lane.cluster()?.owners();
        Some(Self { since, masters })
    }

    /// The master at this place of the way; `None` behind the last.
    #[must_use]
    pub fn stop(&self, at: usize) -> Option<To> {
        self.masters.get(at).copied().map(To::Node)
    }

    /// The place of the first master from `at` on that is still of the cluster. What another one has is read behind the
    /// last.
    #[must_use]
    pub fn still_there(&self, lane: &Lane, at: usize) -> usize {
        let is_there = |number: &u32| lane.cluster().is_none_or(|lane| lane.has_master(*number));
        let gone = self.masters.iter().skip(at).take_while(|number| !is_there(number)).count();
        at + gone
    }
}

/// Keys of some slots, or why a node did not tell them.
pub type Keys = Result<Vec<Bytes>, Bytes>;

/// Asks the nodes where slots are, as the sidecar itself and not as its client.
#[derive(Debug)]
pub struct Surveyor {
    lane: Lane,
}

impl Upstream {
    /// A surveyor for a client in this database; none where the upstream is no cluster.
    #[must_use]
    pub fn surveyor(&self, db: i64, client: u64, account: &Rc<Account>) -> Surveyor {
        let group = Group { proto: Proto::Resp2, db, login: Login::Service };
        Surveyor { lane: self.lane(&group, client, account) }
    }
}

impl Surveyor {
    /// The way into the cluster.
    ///
    /// # Errors
    /// What a client is told where `upstream.url` leads to no cluster any more.
    fn cluster(&self) -> Result<&Rc<ClusterLane>, Bytes> {
        self.lane.cluster().ok_or_else(|| {
            let mut out = BytesMut::new();
            encode::error(&mut out, errors::upstream::NO_CLUSTER);
            out.freeze()
        })
    }

    /// Asks all masters now who owns what.
    ///
    /// # Errors
    /// The reply of a master that does not tell.
    pub async fn look(&self) -> Result<Result<(), Bytes>, Broken> {
        Ok(self.look_at(&[]).await?.map(drop))
    }

    /// The same; where these slots are.
    async fn look_at(&self, slots: &[u16]) -> Result<Result<Vec<Standing>, Bytes>, Broken> {
        let lane = match self.cluster() {
            Ok(lane) => lane,
            Err(reply) => return Ok(Err(reply)),
        };
        let stops = self.lane.everywhere(false);
        let question = encode::request_of(&["CLUSTER", "NODES"]);
        let asked = stops.iter().map(|stop| (stop.to, question.clone()));
        let answers = self.ask(Batch::each(asked, true)).await?;
        let mut views = Vec::with_capacity(stops.len());
        for (Stop { to, counts }, answer) in stops.into_iter().zip(&answers) {
            match decode::text(answer, Proto::Resp2) {
                Some(text) => views.push((lane.host(to), text)),
                None if counts => return Ok(Err(answer.clone())),
                None => {}
            }
        }
        Ok(Ok(note_views(lane.upstream(), &views, slots)))
    }

    /// The first slots from `from` on, at most so many, that have changed since the tour began.
    ///
    /// # Errors
    /// The reply to a client of which there is no cluster any more.
    pub fn changed(&self, tour: &Tour, from: u16, most: usize) -> Result<Vec<u16>, Bytes> {
        Ok(self.cluster()?.upstream().cluster.history().changed(tour.since, from, most))
    }

    /// All keys of these slots, wherever they are now.
    ///
    /// A slot is read at one moment, or at two: where its keys leave, and then where they arrive. If the nodes say the
    /// same of the slot before and after that, no key was elsewhere. If not, or if another node has taken the place of
    /// one of these meanwhile, it is read again, for as long as a command waits.
    ///
    /// # Errors
    /// The reply of a node that does not tell.
    pub async fn keys(&self, slots: &[u16]) -> Result<Keys, Broken> {
        let (mut left, mut found): (Vec<u16>, Vec<Bytes>) = (slots.to_vec(), Vec::new());
        let begun = Instant::now();
        while !left.is_empty() {
            let before: Vec<(u16, Standing)> = left.iter().map(|slot| (*slot, self.standing(*slot))).collect();
            let mut read: Vec<Vec<Bytes>> = vec![Vec::new(); before.len()];
            let mut told = Ok(());
            for turn in 0..2 {
                told = match told {
                    Ok(()) => self.read(&before, turn, &mut read).await?,
                    error => error,
                };
            }
            if let Err(reply) = told {
                if !self.may_have_successor(&reply, begun).await {
                    return Ok(Err(reply));
                }
                if let Err(reply) = self.look().await? {
                    return Ok(Err(reply));
                }
                continue;
            }
            let after = match self.look_at(&left).await? {
                Ok(after) => after,
                Err(reply) => return Ok(Err(reply)),
            };
            left.clear();
            for (((slot, before), keys), after) in before.into_iter().zip(read).zip(after) {
                if before == after { found.extend(keys) } else { left.push(slot) }
            }
        }
        Ok(Ok(found))
    }

    /// True behind a pause, where a node has told nothing because it is none any more, and that may be known soon.
    async fn may_have_successor(&self, reply: &Bytes, begun: Instant) -> bool {
        let Ok(lane) = self.cluster() else { return false };
        let is_gone = decode::error(reply).is_some_and(|error| error == errors::upstream::RETIRED);
        if !is_gone || begun.elapsed() >= lane.upstream().settings.queue_timeout {
            return false;
        }
        lane.upstream().cluster.doubt();
        tokio::time::sleep(PAUSE).await;
        true
    }

    /// What the nodes have of each slot: first those that keys leave, then those where they arrive.
    async fn read(
        &self,
        slots: &[(u16, Standing)],
        turn: usize,
        found: &mut [Vec<Bytes>],
    ) -> Result<Result<(), Bytes>, Broken> {
        let lane = match self.cluster() {
            Ok(lane) => lane,
            Err(reply) => return Ok(Err(reply)),
        };
        let (mut asked, mut whose) = (Vec::new(), Vec::new());
        for (at, (slot, standing)) in slots.iter().enumerate() {
            let places = lane.upstream().cluster.history().places(standing);
            for to in places[turn].iter().filter_map(|host| lane.at(host)) {
                asked.push((to, encode::request_of(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "2147483647"])));
                whose.push(at);
            }
        }
        if asked.is_empty() {
            return Ok(Ok(()));
        }
        for (at, answer) in whose.into_iter().zip(self.ask(Batch::each(asked, true)).await?) {
            let Some(keys) = reply::elements(&answer) else { return Ok(Err(answer)) };
            found[at].extend(keys.into_iter().map(|key| answer.slice_ref(key)));
        }
        Ok(Ok(()))
    }

    fn standing(&self, slot: u16) -> Standing {
        self.lane.cluster().map(|lane| lane.upstream().cluster.history().standing(slot)).unwrap_or_default()
    }

    async fn ask(&self, batch: Batch) -> Result<Vec<Bytes>, Broken> {
        let ticket = self.lane.submit(batch);
        Ok(reply::each(&ticket.whole().await?))
    }
}
