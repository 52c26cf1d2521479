//! What the sidecar asks servers for itself: by the `redis` crate, over streams that are opened as those of lanes are.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, ServerError, Value};

use super::stream::Stream;
use super::target::Target;

/// Opens a connection for questions. Opening it, and each answer, may take so long.
///
/// # Errors
/// Why that cannot be, without secrets.
pub(super) async fn open(target: &Target, timeout: Duration) -> Result<MultiplexedConnection, String> {
    in_time(timeout, async {
        let stream = Stream::open(target, timeout).await.map_err(|error| error.to_string())?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(timeout));
        // In no database, and without a word about the library.
        let login = target.access.login.clone().set_skip_set_lib_name().set_db(0);
        let opened = MultiplexedConnection::new_with_config(&login, stream, config).await;
        let (connection, driver) = opened.map_err(|error| error.to_string())?;
        // It ends with the last handle on the connection.
        tokio::spawn(driver);
        Ok(connection)
    })
    .await
}

/// Opens a connection for messages.
///
/// # Errors
/// Why that cannot be, without secrets.
pub(super) async fn subscriber(target: &Target, timeout: Duration) -> Result<PubSub, String> {
    in_time(timeout, async {
        let stream = Stream::open(target, timeout).await.map_err(|error| error.to_string())?;
        PubSub::new(&target.access.login.clone().set_skip_set_lib_name(), stream)
            .await
            .map_err(|error| error.to_string())
    })
    .await
}

/// The error that a reply is, or the first one in it.
pub(super) fn fault(reply: &Value) -> Option<&ServerError> {
    match reply {
        Value::ServerError(error) => Some(error),
        Value::Array(parts) => parts.iter().find_map(fault),
        _ => None,
    }
}

/// What takes no longer than this.
pub(super) async fn in_time<T>(
    timeout: Duration,
    wanted: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout(timeout, wanted).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}
