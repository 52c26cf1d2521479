//! What a server says of its part in replication: reads the answer to INFO replication (pure).
//!
//! Source: <https://redis.io/docs/latest/commands/info/>

/// What one server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) is_master: bool,
    /// The history of writes that it has or follows: two servers of one history count their offsets alike.
    pub(super) history: String,
    /// How far it has come in it, in bytes.
    pub(super) offset: u64,
    /// Of a replica: it is connected with its master, and has all that it began with.
    pub(super) is_linked: bool,
    /// Of a master: how many follow it.
    pub(super) followers: usize,
}

impl Said {
    /// None of a text that tells no role.
    pub(super) fn read(info: &str) -> Option<Self> {
        let is_master = value(info, "role")? == "master";
        let offset = value(info, if is_master { "master_repl_offset" } else { "slave_repl_offset" });
        Some(Self {
            is_master,
            history: value(info, "master_replid").unwrap_or_default().to_owned(),
            offset: offset.and_then(|offset| offset.parse().ok()).unwrap_or(0),
            is_linked: value(info, "master_link_status") == Some("up"),
            followers: value(info, "connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0),
        })
    }
}

/// What stands in an answer to INFO under this name.
pub(super) fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn roles_and_offsets_are_read() {
        let master = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=1,state=online,\
            offset=7,lag=0\r\nmaster_replid:aa\r\nmaster_replid2:00\r\nmaster_repl_offset:70\r\n";
        let said = Said::read(master).expect("a role");
        assert!(said.is_master && !said.is_linked);
        assert_eq!((said.history.as_str(), said.offset, said.followers), ("aa", 70, 2));
        let replica = "role:slave\r\nmaster_link_status:up\r\nslave_read_repl_offset:80\r\nslave_repl_offset:68\r\n\
            master_replid:aa\r\nmaster_repl_offset:81\r\n";
        let said = Said::read(replica).expect("a role");
        assert!(!said.is_master && said.is_linked);
        assert_eq!((said.history.as_str(), said.offset), ("aa", 68), "what it has applied counts");
        assert_eq!(Said::read(""), None);
    }
}
