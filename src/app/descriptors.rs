//! File descriptors: raises their limit to what the configured clients and connections need. Where that is not
//! possible, fewer clients are let in, with a warning.

use crate::config::{Limits, Settings};

/// For listeners, files, the store, lanes and the admin port.
const RESERVE: u64 = 192;

/// Raises the limit of open files, and lowers `limits.clients` to what that leaves.
/// Source: <https://man7.org/linux/man-pages/man2/getrlimit.2.html>
pub(super) fn make_room(settings: &Settings) -> Limits {
    let mut limits = settings.limits.clone();
    let others = RESERVE + settings.upstream.pinned_max as u64;
    let wanted = limits.clients as u64 + others;
    let have = rlimit::increase_nofile_limit(wanted).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(wanted, |(soft, _)| soft)
    });
    if have < wanted {
        // Half of what there is for clients, where the pinned connections alone would take more.
        let clients = have.saturating_sub(others).max(have / 2);
        limits.clients = usize::try_from(clients).unwrap_or(limits.clients).clamp(1, limits.clients);
        tracing::warn!(
            open_files = have,
            wanted,
            clients = limits.clients,
            "too few files may be open for limits.clients and upstream.pinned_max: fewer clients are let in. Raise the \
             limit (ulimit -n, LimitNOFILE=)"
        );
    }
    limits
}
