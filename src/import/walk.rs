//! Goes over the keys of every server of the upstream. A key that was there from the beginning to the end is met: SCAN
//! promises that of one server, and where slots of a cluster have moved meanwhile, all are listed once more.

use super::side::glob;
use super::{Import, Trouble};
use crate::upstream::{KeyServer, Owners};

impl Import<'_> {
    /// Lists all keys once; false if some may have been missed.
    pub(super) async fn pass(&mut self) -> Result<bool, Trouble> {
        let timeout = self.ends.upstream.connect_timeout;
        let mut owners = Owners::find(self.ends.topology, timeout).await?;
        if self.runs.is_empty() {
            self.runs.extend(owners.servers.iter().map(|server| server.run.clone()));
        }
        let mut all = 0;
        for server in &mut owners.servers {
            all += server.count().await.unwrap_or(0);
        }
        self.progress.expect(all);
        for server in &mut owners.servers {
            self.server(server).await?;
        }
        // What belongs to another server by now is found there.
        for server in &mut owners.servers {
            self.settle(server, !self.stop.is_cancelled()).await?;
        }
        let is_as_before = owners.layout == Owners::find(self.ends.topology, timeout).await?.layout;
        Ok(self.stop.is_cancelled() || is_as_before && !self.has_missed && self.unsettled.is_empty())
    }

    async fn server(&mut self, server: &mut KeyServer) -> Result<(), Trouble> {
        let (glob, mut cursor) = (glob(&self.mapping().pattern.pieces().0), 0);
        loop {
            let (next, keys) = server.scan(cursor, &glob).await?;
            let keys = self.chosen(keys);
            if !keys.is_empty() {
                self.keys(server, &keys).await?;
            }
            self.show(KeyServer::STEP);
            self.settle(server, false).await?;
            if next == 0 || self.stop.is_cancelled() {
                return self.settle(server, !self.stop.is_cancelled()).await;
            }
            cursor = next;
        }
    }
}
