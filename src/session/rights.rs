//! What the upstream has said that the client's user may do, of the commands that the sidecar answers itself
//! (`auth.mode = "upstream"`). A permission may be taken away at any time, so it is not believed for long.

use crate::command::Spec;
use crate::telemetry::clock::Tick;

/// How long a permission is believed, in milliseconds.
const BELIEVED_FOR: u64 = 1000;

/// The permissions of one login, by the commands' numbers, and when they were told.
#[derive(Debug, Default)]
pub struct Rights(Vec<(usize, Tick)>);

impl Rights {
    /// True if the upstream has said so a moment ago.
    #[must_use]
    pub fn has(&self, spec: &Spec, now: Tick) -> bool {
        self.0.iter().any(|(id, told)| *id == spec.id && now.since(*told) < BELIEVED_FOR)
    }

    /// The upstream says so now.
    pub fn note(&mut self, id: usize, now: Tick) {
        self.0.retain(|(other, told)| *other != id && now.since(*told) < BELIEVED_FOR);
        self.0.push((id, now));
    }
}

#[cfg(test)]
mod tests {
    use super::Rights;
    use crate::command::lookup;
    use crate::telemetry::clock::Tick;

    #[test]
    fn a_permission_is_believed_for_a_second() {
        let (ping, echo) = (lookup(b"PING", b"").expect("known"), lookup(b"ECHO", b"").expect("known"));
        let mut rights = Rights::default();
        rights.note(ping.id, Tick::from_ms(5));
        rights.note(echo.id, Tick::from_ms(900));
        assert!(rights.has(ping, Tick::from_ms(1004)) && !rights.has(ping, Tick::from_ms(1005)));
        assert!(rights.has(echo, Tick::from_ms(1005)));
        rights.note(echo.id, Tick::from_ms(1200));
        assert_eq!(rights.0.len(), 1, "what is old is not kept");
    }
}
