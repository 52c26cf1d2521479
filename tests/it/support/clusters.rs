//! A real Redis Cluster: three masters with their replicas, which are failed over, killed, hung and started again.

use std::ops::Deref;
use std::thread;
use std::time::{Duration, Instant};

use super::nodes::{Known, Nodes, order, slot_of, told};
use super::redis::{Redis, Server};
use super::{free_port, until};

const MASTERS: u16 = 3;

/// The slots with which they begin.
const SHARES: [(u16, u16); MASTERS as usize] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// After so many milliseconds without an answer a node is taken for dead.
const NODE_TIMEOUT: &str = "1000";

/// Asked as its nodes that run are.
pub struct Cluster {
    servers: Vec<Redis>,
    /// The ports at which they speak with each other.
    buses: Vec<u16>,
    running: Nodes,
}

/// A server that may become a node; it knows of no other.
fn node(server: Server, bus: u16, arguments: &[&str]) -> Redis {
    let bus = bus.to_string();
    let of_cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout"];
    let of_replica = [NODE_TIMEOUT, "--repl-diskless-sync-delay", "0"];
    Redis::of(server, &[&of_cluster[..], &of_replica, arguments].concat())
}

/// A node of no cluster but its own, which has no slots yet.
pub fn node_alone(arguments: &[&str]) -> Redis {
    node(Server::Installed, free_port(), arguments)
}

impl Deref for Cluster {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.running
    }
}

impl Cluster {
    /// Three masters with a replica each.
    pub fn start() -> Self {
        Self::of(Server::Installed)
    }

    pub fn of(server: Server) -> Self {
        Self::with(server, 1, &[])
    }

    /// So many replicas for each of three masters; all have these arguments.
    pub fn with(server: Server, replicas: u16, arguments: &[&str]) -> Self {
        let buses: Vec<u16> = (0..MASTERS * (1 + replicas)).map(|_| free_port()).collect();
        let servers: Vec<Redis> = buses.iter().map(|bus| node(server, *bus, arguments)).collect();
        let ports = servers.iter().map(|server| server.port).collect();
        let cluster = Self { servers, buses, running: Nodes { ports } };
        cluster.join();
        cluster
    }

    /// Another cluster of the same servers, without a key: each of them has another name.
    pub fn rebuild(&self) {
        for told in ["FLUSHALL", "CLUSTER RESET HARD"] {
            self.ports.iter().for_each(|port| order(*port, told));
        }
        self.join();
    }

    /// Introduces a node to another one.
    pub fn introduce(&self, port: u16, to: u16) {
        let at = self.servers.iter().position(|server| server.port == to).expect("one of the nodes");
        order(port, &format!("CLUSTER MEET 127.0.0.1 {to} {}", self.buses[at]));
    }

    fn join(&self) {
        let buses = &self.buses;
        let (masters, replicas) = self.ports.split_at(usize::from(MASTERS));
        for (port, epoch) in self.ports.iter().zip(1..) {
            order(*port, &format!("CLUSTER SET-CONFIG-EPOCH {epoch}"));
        }
        for (i, port) in self.ports.iter().enumerate() {
            if let Some((first, last)) = SHARES.get(i) {
                order(*port, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            }
            for (other, bus) in self.ports.iter().zip(buses).skip(i + 1) {
                order(*port, &format!("CLUSTER MEET 127.0.0.1 {other} {bus}"));
            }
        }
        self.agreed();
        for (replica, master) in replicas.iter().zip(masters.iter().cycle()) {
            order(*replica, &format!("CLUSTER REPLICATE {}", self.id(*master)));
        }
        self.healthy();
    }

    /// Waits until all nodes run, and know the same of each other.
    fn agreed(&self) {
        let (begun, mut patience) = (Instant::now(), Duration::from_secs(3));
        while let Err(why) = self.agree() {
            assert!(begun.elapsed() < Duration::from_secs(40), "the nodes never agreed: {why}");
            if begun.elapsed() > patience {
                patience *= 2;
                self.claim_again();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Why they do not agree, if they do not.
    fn agree(&self) -> Result<(), String> {
        let views = self.views().filter(|views| views.len() == self.servers.len()).ok_or("one does not answer")?;
        for view in &views {
            if view.len() != self.servers.len() {
                return Err(format!("one knows {}", view.len()));
            }
            for (known, first) in view.iter().zip(&views[0]) {
                if known != first || !known.is_well {
                    return Err(format!("{known} for one, {first} for another"));
                }
            }
        }
        Ok(())
    }

    /// Every master makes its claims newer than all others. Replicas are not told of moves, but hear of them: one that
    /// hears of two in the wrong order keeps the wrong owner of a slot for ever.
    fn claim_again(&self) {
        for port in self.masters() {
            let told = told(port, "CLUSTER BUMPEPOCH").unwrap_or_default();
            let epoch = told.trim_end().rsplit(' ').next().and_then(|epoch| epoch.parse::<u64>().ok());
            until("all know its claims", || {
                let knows =
                    |view: &Vec<Known>| view.iter().any(|known| known.port == port && Some(known.epoch) >= epoch);
                self.views().is_some_and(|views| views.iter().all(knows))
            });
        }
    }

    /// Waits until all nodes run, agree and serve, and every replica has what its master has.
    pub fn healthy(&self) {
        self.agreed();
        let replicas = self.replicas();
        for port in &self.ports {
            let wanted = if replicas.contains(port) { "master_link_status:up" } else { "state=online" };
            until("every node serves, and every replica is linked", || {
                let of_it = told(*port, "INFO replication");
                let is_linked = replicas.is_empty() || of_it.is_some_and(|of_it| of_it.contains(wanted));
                is_linked && self.serves(*port)
            });
        }
    }

    fn serves(&self, port: u16) -> bool {
        told(port, "CLUSTER INFO").is_some_and(|info| info.contains("cluster_state:ok"))
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.servers.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    fn server(&mut self, port: u16) -> &mut Redis {
        self.servers.iter_mut().find(|server| server.port == port).expect("one of the nodes")
    }

    pub fn kill(&mut self, port: u16) {
        self.server(port).kill();
        self.running = self.running.without(port);
    }

    /// Starts a node that was killed.
    pub fn launch(&mut self, port: u16) {
        self.server(port).launch();
        self.runs_again(port);
    }

    /// Starts a node again at another port, with its keys, and waits until all know; gives the port.
    pub fn readdress(&mut self, port: u16) -> u16 {
        order(port, "SAVE");
        let server = self.server(port);
        server.kill();
        server.port = free_port();
        server.launch();
        let new = server.port;
        self.running.ports.iter_mut().filter(|known| **known == port).for_each(|known| *known = new);
        self.healthy();
        new
    }

    /// Stops a node without ending it.
    pub fn hang(&mut self, port: u16) {
        self.server(port).pause(true);
        self.running = self.running.without(port);
    }

    /// Lets a node go on that was hung.
    pub fn wake(&mut self, port: u16) {
        self.server(port).pause(false);
        self.runs_again(port);
    }

    /// Nodes keep their order.
    fn runs_again(&mut self, port: u16) {
        let runs = |other: &u16| *other == port || self.running.ports.contains(other);
        let ports = self.servers.iter().map(|server| server.port).filter(runs).collect();
        self.running = Nodes { ports };
    }

    /// The nodes that run.
    pub fn nodes(&self) -> Nodes {
        self.running.clone()
    }

    /// Makes a replica of this master the master, in order, and waits until all know; gives its port.
    pub fn fail_over(&self, master: u16) -> u16 {
        let replica = *self.replicas_of(master).first().expect("a replica");
        order(replica, "CLUSTER FAILOVER");
        until("the replica is the master", || self.all_know_master(replica));
        replica
    }

    /// Waits until a replica has the slots of a master that is killed or hung; gives its port.
    pub fn replaced(&self, of_it: &str) -> u16 {
        let mut port = 0;
        until("another master has its slots, and all know", || {
            port = self.owner(slot_of(of_it));
            self.all_know_master(port)
        });
        until("the cluster serves", || self.ports.iter().all(|port| self.serves(*port)));
        port
    }
}
