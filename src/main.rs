//! The command line. Exit codes: 0 done, 1 something that was needed could not be had, 2 faulty configuration or usage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use hearthside::app::{self, Asks, Failure, ImportOrder, Passed, Question, Reading};
use hearthside::config::{Feed, Loaded, default_file, load};
use hearthside::journal::{Clearing, Journal, JournalError};
use hearthside::mapping::Mappings;
use hearthside::store::triggers::{self, Report};
use hearthside::store::{Store, StoreError, publication};
use hearthside::telemetry;
use humantime_serde::re::humantime;

/// It keeps the memory that long replies are read into, where glibc's allocator gives the pages back and takes them
/// again: docs/decisions/0012.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A read-through caching sidecar proxy for Redis.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings and mappings [default: config.toml if there is one, else the built-in demo]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
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
struct Look {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Command {
    /// What is asked of a running sidecar.
    fn question(&self) -> Option<(Question, Look)> {
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
struct Triggers {
    /// Make those that are missing
    #[arg(long, conflicts_with_all = ["prune", "remove", "sql"])]
    install: bool,
    /// Drop those that serve no mapping of this configuration
    #[arg(long, conflicts_with_all = ["remove", "sql"])]
    prune: bool,
    /// Drop all of them
    #[arg(long, conflicts_with = "sql")]
    remove: bool,
    /// Write the SQL that makes them to a file
    #[arg(long, value_name = "FILE")]
    sql: Option<PathBuf>,
    /// Print the GRANT statements that a sidecar's role needs
    #[arg(long, value_name = "ROLE", conflicts_with_all = ["install", "prune", "remove", "sql"],
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    grants: Option<String>,
    /// How long one of five attempts waits for a table's lock
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = lock_timeout)]
    lock_timeout: Duration,
}

/// What is copied, and how. It can be ended at any moment and run again: what is in the store is passed over.
#[derive(clap::Args)]
struct Import {
    /// The key pattern of the mapping, as the configuration has it
    mapping: String,
    /// Only count what would be copied
    #[arg(long)]
    dry_run: bool,
    /// Also compare the keys that both sides have already
    #[arg(long)]
    verify: bool,
    /// Also copy keys that have a TTL although the mapping has no expires_column: they never end then
    #[arg(long)]
    forget_ttl: bool,
    /// How many keys are read and written at once
    #[arg(long, value_name = "KEYS", default_value = "200", value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// How many keys are copied in a second, at most
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
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
struct Aside {
    /// Let them wait again: the next start of the sidecar sends the last value of each field
    #[arg(long, conflicts_with = "remove")]
    retry: bool,
    /// Remove them
    #[arg(long)]
    remove: bool,
    /// Only those of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

impl Aside {
    fn clearing(&self) -> Option<Clearing> {
        match (self.retry, self.remove) {
            (true, _) => Some(Clearing::Retry),
            (_, true) => Some(Clearing::Remove),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Man { folder }) => return man(folder.as_deref()),
        Some(Command::Completions { shell }) => return completions(*shell),
        _ => {}
    }
    let passed = match Passed::from_environment() {
        Ok(passed) => passed,
        Err(error) => return say(&format!("LISTEN_FDS: {error}"), 1),
    };
    // A file that is there now must be there at a reload.
    let file = arguments.config.or_else(default_file);
    let mut loaded = load(file.as_deref(), std::env::vars_os());
    telemetry::log::init(&loaded.config.settings.log);
    let reading = Reading::of(&mut loaded);
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => return say(&format!("no runtime: {error}"), 1),
        };
    let reread = || load(file.as_deref(), std::env::vars_os());
    let code = runtime.block_on(execute(arguments.command.unwrap_or(Command::Run), loaded, reading, reread, passed));
    // A load that is still running is not waited for: nobody is left to read it.
    runtime.shutdown_background();
    code
}

async fn execute(
    command: Command,
    mut loaded: Loaded,
    reading: Reading,
    reread: impl Fn() -> Loaded,
    passed: Passed,
) -> ExitCode {
    let asks = match command {
        Command::Check { connect: true } => Some(Asks::Everybody),
        Command::Check { connect: false } => Some(Asks::Nobody),
        // Whatever else is wrong is reported with it, if the store answers.
        _ => Some(Asks::Store).filter(|_| !loaded.faults.is_empty()),
    };
    if let Some(asks) = asks {
        app::check(&loaded.config, &reading.mappings, asks, &mut loaded.faults).await;
    }
    match command {
        Command::Check { .. } => loaded.faults.doubts().for_each(|doubt| _ = say(&format!("warning: {doubt}"), 0)),
        Command::Run => loaded.faults.doubts().for_each(|doubt| tracing::warn!("{doubt}")),
        _ => {}
    }
    if !loaded.faults.is_empty() {
        return say(&loaded.faults.to_string(), 2);
    }
    if let Some((question, look)) = command.question() {
        return match app::look(&loaded.config.settings.admin, &question, look.json) {
            Ok(answer) => print(&answer),
            Err(why) => say(&why, 1),
        };
    }
    match command {
        Command::Check { .. } => print(&format!("ok: {} mappings\n", reading.mappings.list.len())),
        Command::Commands => print(&app::commands()),
        Command::Health => match hearthside::admin::ask_ready(&loaded.config.settings.admin) {
            Ok(answer) => print(&answer),
            Err(error) => say(&error.to_string(), 1),
        },
        Command::Journal(aside) => journal(&loaded, &aside).await,
        Command::Import(order) => match app::import(&loaded.config, &reading.mappings, &order.into()).await {
            Ok((report, true)) => print(&report),
            Ok((report, false)) => {
                print(&report);
                ExitCode::from(1)
            }
            Err(error) => say(&error, 1),
        },
        Command::Migrate { demo } => migrate(&loaded, demo).await,
        Command::Triggers(wanted) => change_triggers(&loaded, &reading.mappings, &wanted).await,
        // Asked above.
        Command::Status(_)
        | Command::Mappings(_)
        | Command::Mode { .. }
        | Command::Explain { .. }
        | Command::Top { .. }
        | Command::Slowlog(_)
        | Command::Clients(_)
        | Command::Events(_)
        | Command::Man { .. }
        | Command::Completions { .. } => ExitCode::SUCCESS,
        Command::Run => match app::run(reading, reread, passed).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Faults(faults)) => {
                faults.into_iter().for_each(|fault| loaded.faults.add(fault.path, fault.message));
                say(&loaded.faults.to_string(), 2)
            }
            Err(failure) => say(&failure.to_string(), 1),
        },
    }
}

fn man(folder: Option<&Path>) -> ExitCode {
    let mut text = Vec::new();
    let written = match folder {
        Some(folder) => clap_mangen::generate_to(Arguments::command(), folder),
        None => clap_mangen::Man::new(Arguments::command()).render(&mut text),
    };
    match written {
        Ok(()) => print(&String::from_utf8_lossy(&text)),
        Err(error) => say(&format!("the manual pages cannot be written: {error}"), 1),
    }
}

fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "hearthside", &mut text);
    print(&String::from_utf8_lossy(&text))
}

async fn migrate(loaded: &Loaded, demo: bool) -> ExitCode {
    let done = async { Store::connect_to_migrate(&loaded.config.settings.store).await?.migrate(demo).await };
    match done.await {
        Ok(()) => print("migrated\n"),
        Err(error) => say(&error.to_string(), 1),
    }
}

async fn journal(loaded: &Loaded, aside: &Aside) -> ExitCode {
    let path = &loaded.config.settings.journal.path;
    let key = aside.key.as_deref().map(str::as_bytes);
    let result = match aside.clearing() {
        Some(clearing) => Journal::clear(path, clearing, key).await.map(|fields| app::cleared(fields, clearing)),
        None => Journal::refused(path).await.map(|(mut refused, missing)| {
            refused.retain(|field| key.is_none_or(|key| field.key == key));
            app::refused(&refused, missing)
        }),
    };
    match result {
        Ok(text) => print(&text),
        Err(JournalError::InUse(_)) => say(&format!("a sidecar has the journal {}: stop it first", path.display()), 1),
        Err(error) => say(&error.to_string(), 1),
    }
}

async fn change_triggers(loaded: &Loaded, mappings: &Mappings, wanted: &Triggers) -> ExitCode {
    let settings = &loaded.config.settings.store;
    let script = async || match settings.feed {
        Feed::Notify | Feed::Outbox | Feed::Auto => triggers::script(settings, &mappings.list).await,
        Feed::Replication => publication::script(&mappings.list, &settings.publication),
    };
    match wanted {
        Triggers { sql: Some(file), .. } => match std::fs::write(file, script().await) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => say(&format!("{} cannot be written: {error}", file.display()), 1),
        },
        Triggers { grants: Some(role), .. } => {
            let store = Store::connect(settings);
            match async { store.await?.grants(&mappings.list, role).await }.await {
                Ok(grants) => print(&grants),
                Err(error) => say(&error.to_string(), 1),
            }
        }
        Triggers { install: false, prune: false, remove: false, .. } => print(&script().await),
        _ => match report(loaded, mappings, wanted).await {
            Ok(report) => {
                report.done.iter().for_each(|line| _ = print(&format!("{line}\n")));
                match report.failed.is_empty() {
                    true => print(if report.done.is_empty() { "nothing to do\n" } else { "" }),
                    false => say(&report.failed.join("\n"), 1),
                }
            }
            Err(error) => say(&error.to_string(), 1),
        },
    }
}

async fn report(loaded: &Loaded, mappings: &Mappings, wanted: &Triggers) -> Result<Report, StoreError> {
    let store = Store::connect(&loaded.config.settings.store).await?;
    let patience = wanted.lock_timeout;
    match wanted {
        Triggers { install: true, .. } => store.install_triggers(&mappings.list, patience).await,
        Triggers { prune: true, .. } => store.prune_triggers(&mappings.list, patience).await,
        _ => store.remove_triggers(patience).await,
    }
}

/// What was asked for goes to standard output; a reader that closed it early wants no more.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// What is wrong goes to standard error.
fn say(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "hearthside: {}", text.replace('\n', "\nhearthside: "));
    ExitCode::from(code)
}
