//! The command line. Exit codes: 0 done, 1 something that was needed could not be had, 2 faulty configuration or usage.

#[path = "main/arguments.rs"]
mod arguments;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Aside, Command, Triggers};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use hearthside::app::{self, Asks, Failure, Passed, Reading};
use hearthside::config::{Feed, Loaded, default_file, load};
use hearthside::journal::{Journal, JournalError};
use hearthside::mapping::Mappings;
use hearthside::store::triggers::{self, Report};
use hearthside::store::{Store, StoreError, publication};
use hearthside::telemetry;

/// It keeps the memory that long replies are read into, where glibc's allocator gives the pages back and takes them
/// again: docs/decisions/0012.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    if let Some(faulty) = checked(&command, &mut loaded, &reading).await {
        return faulty;
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

/// Tells what is wrong with the configuration, as far as the command asks for it, and what is doubtful; the exit code
/// where it is faulty.
async fn checked(command: &Command, loaded: &mut Loaded, reading: &Reading) -> Option<ExitCode> {
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
        return Some(say(&loaded.faults.to_string(), 2));
    }
    None
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

/// What is wrong goes to standard error. What a running sidecar has said begins with its name, too.
fn say(text: &str, code: u8) -> ExitCode {
    let text = text.trim_start_matches("hearthside: ");
    let _ = writeln!(std::io::stderr(), "hearthside: {}", text.replace('\n', "\nhearthside: "));
    ExitCode::from(code)
}
