//! The reply of EXEC: the upstream's elements with the sidecar's among them, in the order of the commands.

use bytes::BufMut;

use super::Desk;
use super::answers::answer;
use super::queued::{Queue, Queued};
use super::store::StoreAnswer;
use crate::cache::AllDone;
use crate::command::OwnedRequest;
use crate::dispatch::{Flow, greeted};
use crate::errors;
use crate::resp::encode;
use crate::resp::pieces::{Elements, Pieces};
use crate::resp::pubsub::{self, PubSub};
use crate::route::Route;
use crate::store::StoreError;
use crate::telemetry::audit::AuditNote;
use crate::upstream::{Group, Kept, Pinned};

/// What the elements of EXEC's reply are taken from.
pub(super) struct Sources {
    /// The upstream's.
    pub(super) elements: Elements,
    /// What is gathered counts here.
    pub(super) kept: Kept,
    /// How each command is answered from what the store has done.
    pub(super) answers: Vec<StoreAnswer>,
    /// What is to be said of each in the audit log.
    pub(super) notes: Vec<Option<AuditNote>>,
    /// What the store has done, or why it has not.
    pub(super) done: Result<AllDone, StoreError>,
}

/// Answers every command: from what the upstream or the store has done, or as outside a transaction. Nothing is
/// answered when what is gathered becomes more than the client may hold.
pub(super) async fn splice(desk: &mut Desk<'_>, queued: Queue, from: Sources) -> Pieces {
    let Sources { mut elements, mut kept, answers, notes, mut done } = from;
    let mut reply = Pieces::default();
    encode::array(desk.out, queued.len());
    let mut rest = queued.into_list().into_iter().zip(&answers).zip(notes);
    while let Some(((command, ours), note)) = rest.next() {
        reply.take(desk.out);
        reply.settle();
        kept.are(reply.len() + elements.len());
        if desk.session.account.overflows() {
            // The reply is for nobody, so it is not looked up where its connection was moved to afterwards.
            desk.session.way.transacting_mut().into_iter().for_each(Pinned::moved);
            audit_unheard(desk, std::iter::once(((command, ours), note)).chain(rest), &done);
            return Pieces::default();
        }
        if let Queued::Here(request, route) = &command
            && desk.services.is_watched()
        {
            desk.services.log_routed(desk.session, &request.view(), route);
            if desk.shows() {
                desk.services.show(desk.session, &request.view());
            }
        }
        match command {
            Queued::Here(request, route) => {
                let begin = desk.out.len();
                if answer(desk, &request, ours, &done) {
                    note.into_iter().for_each(|note| note.answered(&desk.out[begin..]));
                    done.iter_mut().for_each(|done| ours.steps().for_each(|step| done.let_go(step)));
                } else {
                    here(desk, &request, route, &mut reply).await;
                }
            }
            Queued::Upstream(several) => (0..several).for_each(|_| {
                elements.pass(&mut reply);
                reply.settle();
            }),
            Queued::Subscribe(channels) => (0..channels).for_each(|_| confirmation(desk, &elements.next_whole())),
            theirs => upstream(desk, theirs, &elements.next_whole()),
        }
    }
    reply.take(desk.out);
    reply
}

/// What the store has done stands in the audit log, though its answers are for nobody.
fn audit_unheard<'a>(
    desk: &mut Desk<'_>,
    rest: impl Iterator<Item = ((Queued, &'a StoreAnswer), Option<AuditNote>)>,
    done: &Result<AllDone, StoreError>,
) {
    let begin = desk.out.len();
    for ((command, ours), note) in rest {
        if let (Queued::Here(request, _), Some(note)) = (command, note) {
            answer(desk, &request, ours, done);
            note.answered(&desk.out[begin..]);
            desk.out.truncate(begin);
        }
    }
}

async fn here(desk: &mut Desk<'_>, request: &OwnedRequest, route: Route, reply: &mut Pieces) {
    let answered = match desk.services.answer(desk.session, &request.view(), route, desk.out) {
        Flow::Answered => return,
        Flow::Later(answer) => answer.await,
        Flow::Upstream(ticket) => ticket.parts().await.map(|(answer, _)| answer),
        Flow::Exclusive(_) | Flow::Filling(..) => {
            return encode::error(desk.out, errors::transaction::NOT_INSIDE_EXEC);
        }
    };
    match answered {
        Ok(answer) => reply.append_all(answer),
        Err(error) => encode::error(desk.out, &error.to_string()),
    }
}

fn confirmation(desk: &mut Desk<'_>, element: &[u8]) {
    let Some(PubSub::Confirmation(kind, name, on)) = pubsub::read(element) else { return desk.out.put_slice(element) };
    if let Some(pinned) = desk.session.way.transacting() {
        pinned.confirm(kind, name, on);
    }
    desk.pushes().put_slice(element);
}

fn upstream(desk: &mut Desk<'_>, command: Queued, element: &[u8]) {
    let is_ok = element == b"+OK\r\n";
    match command {
        Queued::Select(db) if is_ok => move_to(desk, Group { db, ..desk.session.group.clone() }),
        Queued::State(request) if is_ok => {
            desk.session.accept(&request.view(), &desk.services.owned.tracking, &desk.services.clients);
            if request.view().is(1, "TRACKING") {
                // It was said to this connection alone.
                desk.session.way.ends_tracking();
            }
        }
        Queued::Unknown(unknown) if !unknown.left_nothing(element) => desk.session.way.has_left(unknown),
        Queued::Hello(request) if !element.starts_with(b"-") => {
            if let Ok(moved) = greeted(desk.services, desk.session, &request.view()) {
                move_to(desk, moved.group);
                desk.session.rename(moved.name);
                return desk.out.put_slice(&moved.reply);
            }
        }
        _ => {}
    }
    desk.out.put_slice(element);
}

/// The connection has gone there already.
fn move_to(desk: &mut Desk<'_>, group: Group) {
    if let Some(pinned) = desk.session.way.transacting_mut() {
        pinned.speaks(group.proto);
    }
    desk.session.regroup(group);
}
