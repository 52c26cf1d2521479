//! Judges the logins of clients that a node of the cluster refuses (`auth.mode = "upstream"`): each node has users of
//! its own, and one that lacks a user must not close that user's clients. The home decides, which has let them in.

use std::time::Duration;

use crate::telemetry::LogThrottle;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::connect::connect_now;
use crate::upstream::endpoint::error::ConnectError;
use crate::upstream::endpoint::group::{Group, Login};

/// The pause between two judgements, however many logins are refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs for ever.
pub(super) async fn judge(upstream: &Endpoint) {
    let warnings = LogThrottle::default();
    loop {
        for (credentials, node) in upstream.logins.doubted().await {
            let Some(home) = upstream.cluster.server(None) else { continue };
            let group = Group { login: Login::Client(credentials.clone()), ..Group::default() };
            match connect_now(&home, &group).await {
                Err(ConnectError::Refused(text)) => upstream.logins.refused(&group.login, &text),
                Ok(_) => {
                    if let Some(unlogged) = warnings.due() {
                        let text = "a node of the cluster does not take a login that the home takes; its requests are \
                                    answered with that error, and its clients stay: give all nodes the same users";
                        tracing::warn!(user = %credentials.shown(), node, unlogged, "{text}");
                    }
                }
                // Whether the home takes it cannot be told now. The next refusal is judged again.
                Err(_) => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
