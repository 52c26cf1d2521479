//! Tells whoever started this process, if it asks (`NOTIFY_SOCKET`, as systemd does), that clients are served.
//!
//! Source: <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>

use sd_notify::NotifyState;

pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told at NOTIFY_SOCKET how this sidecar is");
    }
}
