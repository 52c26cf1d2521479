//! What INFO says of clients: in the upstream's text, the numbers of the clients of the sidecar take the place of those
//! of the connections that the sidecar has there. `blocked_clients` stays the upstream's: who reads that one waits may
//! rely on it that the upstream knows.

use crate::clients::Census;
use crate::config::Limits;
use crate::telemetry::metrics::ClientMetrics;

/// The sections in which the upstream speaks of clients.
pub(super) const SECTIONS: [&str; 2] = ["clients", "stats"];

/// Our numbers, by the names that they have in INFO.
pub(super) struct Numbers([(&'static str, u64); 11]);

impl Numbers {
    pub(super) fn of(census: Census, limits: &Limits, metrics: &ClientMetrics) -> Self {
        let of_census = |count: usize| count as u64;
        Self([
            ("connected_clients", of_census(census.connected)),
            ("maxclients", of_census(limits.clients)),
            ("client_recent_max_input_buffer", of_census(census.most_input)),
            ("client_recent_max_output_buffer", of_census(census.most_output)),
            ("tracking_clients", of_census(census.tracking)),
            ("pubsub_clients", of_census(census.subscribing)),
            ("watching_clients", of_census(census.watching)),
            ("total_connections_received", metrics.accepted.get()),
            ("rejected_connections", metrics.all_refused()),
            ("evicted_clients", metrics.reached("buffers")),
            ("client_output_buffer_limit_disconnections", metrics.cut.get() - metrics.reached("buffers")),
        ])
    }

    /// The upstream's text, with our numbers in the lines that it has for them.
    pub(super) fn put_into(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            match self.0.iter().find(|(ours, _)| ours.as_bytes() == name) {
                Some((name, number)) => out.extend_from_slice(format!("{name}:{number}\r\n").as_bytes()),
                None => out.extend_from_slice(line),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;
    use crate::clients::Census;
    use crate::config::Limits;
    use crate::telemetry::Metrics;

    #[test]
    fn the_lines_that_the_upstream_has_say_our_numbers() {
        let census = Census { connected: 3, ..Census::default() };
        let numbers = Numbers::of(census, &Limits::default(), &Metrics::default().clients);
        let text = b"# Clients\r\nconnected_clients:70\r\nblocked_clients:9\r\nother:1\r\n\r\n# Stats\r\nx:2\r\n";
        let expected = "# Clients\r\nconnected_clients:3\r\nblocked_clients:9\r\nother:1\r\n\r\n# Stats\r\nx:2\r\n";
        assert_eq!(String::from_utf8_lossy(&numbers.put_into(text)), expected);
    }
}
