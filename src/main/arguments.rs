//! What may stand on the command line; completions and manual pages are made of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use hearthside::app::{ImportOrder, Question};
use hearthside::journal::Clearing;
use humantime_serde::re::humantime;

/// A read-through caching sidecar proxy for Redis.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// Settings and mappings [default: config.toml if there is one, else the built-in demo]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the sidecar (the default)
    Run,
    /// Check the configuration
    Check {
        /// Also ask the upstream, and the store for tables, columns and triggers
        #[arg(long)]
        connect: bool,
    },
    /// Apply the migrations to the store
    Migrate {
        /// Also make the demo world's tables and fill them
        #[arg(long)]
        demo: bool,
    },
    /// Copy the keys of the upstream that a mapping matches into the store, where it has no row for them
    Import(Import),
    /// Print every command of Redis and how it is handled, as a Markdown table
    Commands,
    /// Print the deferred writes that were put aside, because the store refuses them or a copy of the journal was used
    Journal(Aside),
    /// Ask a running sidecar with the same configuration whether it is ready
    Health,
    /// Print the change triggers that the mappings need in Postgres
    Triggers(Triggers),
    /// Show a running sidecar with the same configuration: store, upstream, change feed, memory, clients
    Status(Look),
    /// Show what is in memory of each mapping of a running sidecar, and what has happened to it
    Mappings(Look),
    /// Show who answers for the keys of each mapping of a running sidecar, or change it; that needs admin.token_file
    Mode {
        /// The mapping, as its key is written in the configuration, or ALL
        #[arg(requires = "mode")]
        mapping: Option<String>,
        /// off, shadow, fallback or on
        mode: Option<String>,
        /// For so many of a hundred keys [default: as many as before]
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: Option<u8>,
        #[command(flatten)]
        look: Look,
    },
    /// Show what a running sidecar knows of a key, and why it was last forgotten
    Explain {
        key: String,
        /// Also ask the store how it would load it
        #[arg(long)]
        plan: bool,
        #[command(flatten)]
        look: Look,
    },
    /// Show the first twenty of the last minute: reads, misses, invalidations, bytes or clients
    Top {
        #[arg(default_value = "reads")]
        by: String,
        #[command(flatten)]
        look: Look,
    },
    /// Show the commands, loads and writes of a running sidecar that were slow lately
    Slowlog(Look),
    /// Show who is connected to a running sidecar
    Clients(Look),
    /// Show the warnings, errors and recoveries of a running sidecar
    Events(Look),
    /// Print the manual page
    Man {
        /// Write the manual pages of this and of every command into a folder
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Print what completes command lines in a shell
    Completions { shell: Shell },
}

/// How it is shown.
#[derive(clap::Args, Clone, Copy)]
pub struct Look {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

impl Command {
    /// What is asked of a running sidecar.
    pub fn question(&self) -> Option<(Question, Look)> {
        Some(match self {
            Self::Status(look) => (Question::Status, *look),
            Self::Mappings(look) => (Question::Mappings, *look),
            Self::Mode { mapping: Some(mapping), mode: Some(mode), percent, look } => {
                let (mapping, mode) = (mapping.clone(), mode.clone());
                (Question::Mode { mapping, mode, percent: *percent }, *look)
            }
            Self::Mode { look, .. } => (Question::Modes, *look),
            Self::Explain { key, plan, look } => (Question::Key { key: key.clone(), with_plan: *plan }, *look),
            Self::Top { by, look } => (Question::Top { by: by.clone() }, *look),
            Self::Slowlog(look) => (Question::Slowlog, *look),
            Self::Clients(look) => (Question::Clients, *look),
            Self::Events(look) => (Question::Events, *look),
            _ => return None,
        })
    }
}

/// What is to be done about them, instead of printing the SQL that makes them.
#[derive(clap::Args)]
pub struct Triggers {
    /// Make those that are missing
    #[arg(long, conflicts_with_all = ["prune", "remove", "sql"])]
    pub install: bool,
    /// Drop those that serve no mapping of this configuration
    #[arg(long, conflicts_with_all = ["remove", "sql"])]
    pub prune: bool,
    /// Drop all of them
    #[arg(long, conflicts_with = "sql")]
    pub remove: bool,
    /// Write the SQL that makes them to a file
    #[arg(long, value_name = "FILE")]
    pub sql: Option<PathBuf>,
    /// Print the GRANT statements that a sidecar's role needs
    #[arg(long, value_name = "ROLE", conflicts_with_all = ["install", "prune", "remove", "sql"],
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub grants: Option<String>,
    /// How long one of five attempts waits for a table's lock
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = lock_timeout)]
    pub lock_timeout: Duration,
}

/// What is copied, and how. It can be ended at any moment and run again: what is in the store is passed over.
#[derive(clap::Args)]
pub struct Import {
    /// The key pattern of the mapping, as the configuration has it
    pub mapping: String,
    /// Only count what would be copied, as far as the types of the columns tell: constraints and triggers are not asked
    #[arg(long)]
    pub dry_run: bool,
    /// Also compare the keys that both sides have already
    #[arg(long)]
    pub verify: bool,
    /// Also copy keys that have a TTL although the mapping has no expires_column: they never end then
    #[arg(long)]
    pub forget_ttl: bool,
    /// How many keys are read and written at once
    #[arg(long, value_name = "KEYS", default_value = "200", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub batch: u16,
    /// How many keys are copied in a second, at most
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
}

impl From<Import> for ImportOrder {
    fn from(Import { mapping, dry_run, verify, forget_ttl, batch, rate }: Import) -> Self {
        Self { mapping, batch: batch.into(), rate, dry_run, verify, forget_ttl }
    }
}

/// As long as Postgres can be told to wait, and a person may mean.
fn lock_timeout(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let is_sound = (Duration::from_millis(1)..=Duration::from_hours(24)).contains(&time);
    if is_sound { Ok(time) } else { Err("must be between 1ms and 24h".to_owned()) }
}

/// What is to become of them. Nothing is changed while a sidecar has the journal.
#[derive(clap::Args)]
pub struct Aside {
    /// Let them wait again: the next start of the sidecar sends the last value of each field
    #[arg(long, conflicts_with = "remove")]
    pub retry: bool,
    /// Remove them
    #[arg(long)]
    pub remove: bool,
    /// Only those of this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

impl Aside {
    pub fn clearing(&self) -> Option<Clearing> {
        match (self.retry, self.remove) {
            (true, _) => Some(Clearing::Retry),
            (_, true) => Some(Clearing::Remove),
            _ => None,
        }
    }
}
