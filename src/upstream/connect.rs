//! Opens a connection and greets the upstream: who we are, which protocol, which database.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;
use super::target::Target;
use super::{Common, Group};
use crate::resp::reply::ReplyScanner;
use crate::resp::{Proto, decode, encode};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No upstream is configured, and none could be started.
    #[error("ERR hearthside: {0}")]
    Absent(String),
    /// It cannot be reached; trying again later is safe.
    #[error("ERR hearthside: the upstream {0} does not answer: {1}; the command was not sent")]
    Unreachable(String, String),
    /// It answered the greeting with this error.
    #[error("{0}")]
    Refused(String),
}

/// Connects within `connect_timeout` and says hello.
pub(super) async fn connect(common: &Common, group: Group) -> Result<Stream, ConnectError> {
    let target = common.target.as_ref().map_err(|reason| ConnectError::Absent(reason.clone()))?;
    let unreachable = |why: String| ConnectError::Unreachable(target.name(), why);
    let greeted = async {
        let mut stream = Stream::open(target).await.map_err(|error| unreachable(error.to_string()))?;
        greet(&mut stream, target, group).await.map_err(|error| unreachable(error.to_string()))??;
        Ok(stream)
    };
    match tokio::time::timeout(common.settings.connect_timeout, greeted).await {
        Ok(result) => result,
        Err(_) => Err(unreachable("no connection in time".into())),
    }
}

/// The first requests of a connection, and how many replies they have.
fn greeting(target: &Target, group: Group) -> (BytesMut, usize) {
    let (mut out, mut replies) = (BytesMut::new(), 0);
    let mut say = |words: &[&str]| {
        encode::request(&mut out, words);
        replies += 1;
    };
    let user = target.username.as_deref().unwrap_or("default");
    match (group.proto, target.password.as_deref()) {
        (Proto::Resp2, None) => {}
        (Proto::Resp2, Some(password)) if target.username.is_none() => say(&["AUTH", password]),
        (Proto::Resp2, Some(password)) => say(&["AUTH", user, password]),
        (Proto::Resp3, None) => say(&["HELLO", "3"]),
        (Proto::Resp3, Some(password)) => say(&["HELLO", "3", "AUTH", user, password]),
    }
    say(&["CLIENT", "SETNAME", "hearthside"]);
    if group.db != 0 {
        say(&["SELECT", &group.db.to_string()]);
    }
    (out, replies)
}

async fn greet(stream: &mut Stream, target: &Target, group: Group) -> io::Result<Result<(), ConnectError>> {
    let (hello, replies) = greeting(target, group);
    stream.write_all(&hello).await?;
    let (mut buffer, mut scanner) = (BytesMut::new(), ReplyScanner::default());
    for _ in 0..replies {
        let reply = read_reply(stream, &mut buffer, &mut scanner).await?;
        if let Some(text) = decode::error(&reply) {
            return Ok(Err(ConnectError::Refused(text)));
        }
    }
    Ok(Ok(()))
}

/// Reads one whole reply; what follows it stays in `buffer`.
async fn read_reply(stream: &mut Stream, buffer: &mut BytesMut, scanner: &mut ReplyScanner) -> io::Result<Bytes> {
    let mut scanned = 0;
    loop {
        let step = scanner.scan(&buffer[scanned..]).map_err(io::Error::other)?;
        scanned += step.used;
        if step.end.is_some() {
            return Ok(buffer.split_to(scanned).freeze());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
