//! The command table of one upstream: what it says of itself completes the built-in rows. It is asked when it is found,
//! and again whenever it has been lost; single names that nobody knew are added as they come.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use super::Endpoint;
use super::connect::{connect_now, read_reply};
use super::error::is_forbidden;
use super::greeting::{NAME, PING};
use super::group::Group;
use super::version::Identity;
use crate::command::{Described, Report, Table, read};
use crate::resp::reply::ReplyScanner;
use crate::resp::{decode, encode};

/// Longest answer to COMMAND that is read: that of Redis 8.2 has 97 KiB.
const MOST_BYTES: usize = 8 << 20;
/// Most descriptions of single names that are kept until the upstream is asked for all.
const MOST_ASKED: usize = 4096;
/// Commands that a log line names.
const NAMED: usize = 20;
/// What is asked.
const COMMAND: &str = "COMMAND";

/// The table of one upstream.
#[derive(Debug)]
pub struct Commands {
    /// Counts the tables there were, so that who has one knows whether it is the last.
    edition: AtomicU64,
    known: Mutex<Known>,
    /// The user of `upstream.url` may not ask.
    is_secret: AtomicBool,
    /// The last answer could not be read, which has been logged.
    is_unreadable: AtomicBool,
}

#[derive(Debug)]
struct Known {
    table: Arc<Table>,
    /// What this server has said of single names: COMMAND does not tell what it has renamed.
    asked: Vec<Described>,
}

impl Default for Commands {
    fn default() -> Self {
        let known = Known { table: Table::built_in().clone(), asked: Vec::new() };
        Self {
            edition: AtomicU64::new(0),
            known: Mutex::new(known),
            is_secret: false.into(),
            is_unreadable: false.into(),
        }
    }
}

impl Commands {
    /// The number of the table.
    #[must_use]
    #[inline]
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// The table, and its number.
    #[must_use]
    pub fn table(&self) -> (u64, Arc<Table>) {
        let known = self.known();
        (self.edition(), known.table.clone())
    }

    /// True when the user of `upstream.url` may not ask which commands there are.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.is_secret.load(Ordering::Relaxed)
    }

    /// Adds what the upstream has said of a single name, with its subcommands.
    pub fn add(&self, commands: Vec<Described>) {
        let mut known = self.known();
        let next = known.table.completed(&commands).0;
        if known.asked.len() + commands.len() <= MOST_ASKED {
            known.asked.extend(commands);
        }
        self.replace(&mut known, next);
    }

    /// The upstream has been lost: it may be another server that is found next.
    pub(super) fn may_be_of_another(&self) {
        self.known().asked.clear();
    }

    /// The upstream has said this of all its commands; false if that is no other table.
    fn told(&self, table: &Table) -> bool {
        let mut known = self.known();
        let next = table.completed(&known.asked).0;
        self.replace(&mut known, next)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is the table; false if it is no other.
    fn replace(&self, known: &mut Known, next: Table) -> bool {
        if known.table.is(&next) {
            return false;
        }
        known.table = Arc::new(next);
        self.edition.fetch_add(1, Ordering::Release);
        true
    }
}

/// Asks the upstream for all its commands; false if it must be asked again. If it does not tell, the built-in rows are
/// the table.
pub(super) async fn learn(endpoint: &Endpoint) -> bool {
    let asked = tokio::time::timeout(endpoint.settings.connect_timeout, ask(endpoint)).await;
    let Said { commands: answer, identity } = match asked {
        Ok(Ok(said)) => said,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            return unreadable(endpoint, &error.to_string());
        }
        // It is gone, or busy: whoever asks for its health will know.
        Ok(Err(_)) | Err(_) => return false,
    };
    let refused = decode::error(&answer);
    let may_not = refused.as_deref().is_some_and(is_forbidden);
    endpoint.metrics.forbidden.note(COMMAND, may_not);
    endpoint.commands.is_secret.store(may_not, Ordering::Relaxed);
    match (refused, read(&answer)) {
        (Some(_), _) if may_not => drop(endpoint.commands.told(Table::built_in())),
        (Some(_), _) => return false,
        (None, Err(why)) => return unreadable(endpoint, why),
        (None, Ok(commands)) => {
            let (table, report) = Table::built_in().completed(&commands);
            if endpoint.commands.told(&table) {
                log(&commands, &report);
            }
        }
    }
    endpoint.commands.is_unreadable.store(false, Ordering::Relaxed);
    // Who asks HELLO and finds the server itself there may count on its commands.
    identity.into_iter().for_each(|identity| endpoint.version.identify(identity));
    true
}

/// What a server says of itself.
struct Said {
    /// The answer to COMMAND.
    commands: Bytes,
    /// Who it is, if it knows HELLO.
    identity: Option<Identity>,
}

/// Asks over a connection that is used for nothing else.
async fn ask(endpoint: &Endpoint) -> io::Result<Said> {
    let mut stream = connect_now(endpoint, &Group::default()).await.map_err(io::Error::other)?.stream;
    let mut requests = BytesMut::new();
    // The name tells monitors that these are ours.
    for words in [&["HELLO", "2", "SETNAME", NAME][..], &["HELLO", "3", "SETNAME", NAME], &[COMMAND], &PING] {
        encode::request(&mut requests, words);
    }
    stream.write_all(&requests).await?;
    let (mut buffer, mut scanner) = (BytesMut::new(), ReplyScanner::default());
    let plain = read_reply(&mut stream, &mut buffer, &mut scanner, MOST_BYTES).await?;
    let mapped = read_reply(&mut stream, &mut buffer, &mut scanner, MOST_BYTES).await?;
    let commands = read_reply(&mut stream, &mut buffer, &mut scanner, MOST_BYTES).await?;
    Ok(Said { commands, identity: Identity::read([&plain, &mapped]) })
}

/// It must be asked again: what came may have been spoilt on its way.
fn unreadable(endpoint: &Endpoint, why: &str) -> bool {
    endpoint.commands.told(Table::built_in());
    if !endpoint.commands.is_unreadable.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            why,
            "the upstream's answer to COMMAND cannot be read; the built-in command table is used until it can"
        );
    }
    false
}

fn log(commands: &[Described], report: &Report) {
    let names = |list: &[&str]| list[..list.len().min(NAMED)].join(" ");
    tracing::info!(
        commands = commands.len(),
        new = report.new.len(),
        new_names = names(&report.new),
        completed = names(&report.completed),
        left_out = report.left_out,
        "the command table is completed by what the upstream says"
    );
}
