//! What needs the whole client: nothing else of it is under way, and everything before it has been written.

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::link::End;
use crate::command::OwnedRequest;
use crate::dispatch::Alone;
use crate::resp::encode;
use crate::route::Pin;
use crate::upstream::{ConnectError, Group, Pinned};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) async fn alone(&mut self, alone: Alone) -> Result<(), End> {
        match alone {
            Alone::Select(db) => self.select(db).await,
            Alone::Transaction(request) => self.in_transaction(&request).await?,
            Alone::Pinned(pin, request) => match self.context.upstream.pin(self.session.group).await {
                Err(error) => self.error(&error.to_string()),
                Ok(pinned) => match pin {
                    Pin::Blocking => self.blocking(pinned, request.bytes()).await?,
                    Pin::Subscribe | Pin::Unsubscribe => self.subscribed(pinned, pin, request.bytes()).await?,
                    Pin::Monitor => self.monitor(pinned, request.bytes()).await?,
                },
            },
        }
        Ok(())
    }

    pub(super) fn error(&mut self, text: &str) {
        encode::error(self.link.replies.tail(), text);
    }

    /// A database is taken when the upstream has accepted it.
    async fn select(&mut self, db: i64) {
        let group = Group { db, ..self.session.group };
        match self.context.upstream.pin(group).await {
            Ok(pinned) => {
                pinned.give_back();
                self.session.regroup(group);
                encode::simple(self.link.replies.tail(), "OK");
            }
            Err(ConnectError::Refused(text)) => self.error(&text),
            Err(error) => self.error(&error.to_string()),
        }
    }

    async fn in_transaction(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let transaction = self.transaction.get_or_insert_default();
        let out = self.link.replies.tail();
        transaction.command(&self.context, &mut self.session, request, out).await;
        if transaction.is_over() {
            self.transaction = None;
        }
        Ok(())
    }

    /// One request, one reply, however long it takes. A client that leaves takes its wait with it: the connection is
    /// dropped, and the upstream forgets who was waiting.
    async fn blocking(&mut self, mut pinned: Pinned, request: Bytes) -> Result<(), End> {
        let reply = tokio::select! {
            reply = pinned.call(&request) => reply,
            end = self.link.left() => return Err(end),
        };
        match reply {
            Ok(reply) => {
                self.link.replies.tail().put_slice(&reply);
                pinned.give_back();
            }
            Err(error) => {
                self.error(&format!("ERR hearthside: the upstream connection was lost while waiting: {error}"))
            }
        }
        Ok(())
    }
}
