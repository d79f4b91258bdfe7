//! The command line: parse, call the library, print, exit.
//!
//! There is one file per command. A command uses only the public API for plugins, limits and models; printing, hints
//! and the exit codes are in `output`, and all output to a terminal goes through `terminal`. stdout carries only data;
//! stderr is for people.

mod add;
mod allowance;
mod batch;
mod budget;
mod build;
mod built_in;
mod cache_dir;
mod cassettes;
mod command;
mod compiled;
mod completions;
mod core_dumps;
mod crates;
mod doctor;
mod global;
mod hints;
mod host;
mod inspect;
mod journal;
mod key;
mod list;
mod logs;
mod new;
mod offline;
mod output;
mod plan;
mod profile;
mod progress;
mod pull;
mod push;
mod recorded;
#[cfg(test)]
mod reference;
mod registry;
mod replay;
mod resume;
mod run;
mod runs;
mod show;
mod signals;
mod spawn;
mod start;
mod table;
mod terminal;
mod test;
#[cfg(test)]
mod testing;
mod trust;
mod update;
mod vet;
mod which;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::global::Global;
use self::output::Printer;
use agenthost::config::Env;
use agenthost::error::{Error, Result};

/// A WebAssembly host for sub-agent tasks
///
/// Each task runs one plugin in a sandbox of its own that can compute and call a model, within hard limits on tokens,
/// cost, calls, fuel, memory and time. Without a key and a configuration, an offline provider answers on a
/// terminal, so that everything can be tried at once.
#[derive(Debug, Parser)]
#[command(
    name = "agenthost",
    bin_name = "agenthost",
    version,
    about,
    max_term_width = 100,
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one task and print its output as JSON
    Run(Box<run::Args>),
    /// Answer tasks given in plain words, at once, without a plugin of your own
    ///
    /// Each task is a sub-agent with limits of its own, on the model `fast`. With --synthesize, the model `strong` makes
    /// one answer of all of them. A task that fails is named and does not stop the others.
    Spawn(Box<spawn::Args>),
    /// Estimate the worst-case cost of a run
    ///
    /// Nothing is spent. If the journal has earlier runs of the plugin, what they used is shown, too.
    Plan(Box<plan::Args>),
    /// Resume a stopped run without paying twice for answered calls
    ///
    /// Works after a kill, Ctrl-C, a failed model or a limit. Finished tasks are kept, and what the run has already
    /// used counts. The limits are those of the first time; a flag replaces one of them, for example to raise a limit
    /// that was reached.
    Resume(Box<resume::Args>),
    /// Replay a recorded run without a provider, a key or a network
    ///
    /// Everything that its tasks receive comes from the record. Differences in requests, outcomes or fuel are reported,
    /// and the exit code is then 1.
    Replay(replay::Args),
    /// List recorded runs, or remove old ones
    Runs(runs::Args),
    /// Show a run's tasks, their outcomes, and how they ran in parallel
    Show(show::Args),
    /// Run a task for each item of a file
    ///
    /// With --size, each task gets several items. The results are written in the order of the items.
    Batch(Box<batch::Args>),
    /// Create a plugin from a template, ready to build, test and run
    New(new::Args),
    /// Build a plugin and check it against its cassettes, offline
    Test(test::Args),
    /// Measure a plugin and suggest limits for it
    ///
    /// Runs the plugin's cassettes, or the inputs of --input.
    Profile(profile::Args),
    /// Build a plugin's crate into a component and print its path
    Build(build::Args),
    /// Show a plugin's identity, capabilities and typed interface
    Inspect(inspect::Args),
    /// Add a plugin of a registry to this project's agenthost.lock
    ///
    /// Its sub-agents are added, too. Shows the capabilities that it requests; --accept accepts them. From then on,
    /// `agenthost run NAMESPACE:NAME` runs exactly these bytes.
    Add(add::Args),
    /// Fetch plugins into the cache, or one plugin into a file
    Pull(pull::Args),
    /// Publish a plugin to a registry, signed with one of your keys
    Push(push::Args),
    /// Update the plugins in agenthost.lock
    ///
    /// Shows the capabilities that a new release requests beyond the accepted ones; such an update needs --accept.
    Update(update::Args),
    /// Check a plugin and record who vouches for it
    ///
    /// Shows the capabilities that it requests and the results of the checks, beginning with the changes since the last
    /// vetted release. With --accept, writes an entry to the project's vetted.toml, to be reviewed and committed.
    Vet(vet::Args),
    /// List the plugins in agenthost.lock, or the releases of one in its registry
    List(list::Args),
    /// Check the toolchain, the configuration, the keys and this machine's limits
    Doctor(doctor::Args),
    /// Trust a project's crates and configuration
    ///
    /// Trusted crates may be built, which runs their code. A trusted configuration may send prompts and keys to its
    /// addresses, use directories outside of the project, and lift your limits, exactly as shown.
    Trust(trust::Args),
    /// Create keys, sign plugins, and verify signatures
    Key(key::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

impl Command {
    fn json(&self) -> bool {
        match self {
            Self::Run(args) => args.json,
            Self::Spawn(args) => args.json,
            Self::Plan(args) => args.json,
            Self::Resume(args) => args.json,
            Self::Replay(args) => args.json,
            Self::Runs(args) => args.json,
            Self::Show(args) => args.json,
            Self::Batch(args) => args.json,
            Self::New(args) => args.json,
            Self::Test(args) => args.json,
            Self::Profile(args) => args.json,
            Self::Build(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Add(args) => args.json,
            Self::Pull(args) => args.json,
            Self::Push(args) => args.json,
            Self::Update(args) => args.json,
            Self::Vet(args) => args.json,
            Self::List(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Key(args) => args.json(),
            Self::Trust(_) | Self::Completions(_) => false,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // First of all, since a compiler process limits itself before anything else.
    if let Some(code) = agenthost::sandbox::compile_and_exit() {
        return ExitCode::from(code);
    }
    terminal::report_panics();
    core_dumps::forbid();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(error),
    };
    let printer = Printer::new(cli.command.json(), &cli.global);
    if cli.global.quiet {
        terminal::hide_moving();
    }
    logs::start(&cli.global);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(command(cli, &printer));
            // An abandoned build or compilation must not delay the exit.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Error::host(format!("cannot start: {error}"))),
    };
    result.unwrap_or_else(|error| printer.error(&error))
}

async fn command(cli: Cli, printer: &Printer) -> Result<ExitCode> {
    let env = Env::from_process()?;
    let global = &cli.global;
    match cli.command {
        Command::Run(args) => run::run(*args, global, &env, printer).await,
        Command::Spawn(args) => spawn::spawn(*args, global, &env, printer).await,
        Command::Plan(args) => plan::plan(*args, global, &env, printer).await,
        Command::Resume(args) => resume::resume(&args, global, &env, printer).await,
        Command::Replay(args) => replay::replay(&args, global, &env, printer).await,
        Command::Runs(args) => runs::runs(&args, global, &env, printer),
        Command::Show(args) => show::show(&args, global, &env, printer),
        Command::Batch(args) => batch::batch(*args, global, &env, printer).await,
        Command::New(args) => new::new(&args, &env, printer),
        Command::Test(args) => test::test(&args, &env, printer).await,
        Command::Profile(args) => profile::profile(&args, global, &env, printer).await,
        Command::Build(args) => build::build(&args, global, &env, printer),
        Command::Inspect(args) => inspect::inspect(&args, global, &env, printer),
        Command::Add(args) => add::add(&args, global, &env, printer).await,
        Command::Pull(args) => pull::pull(&args, global, &env, printer).await,
        Command::Push(args) => push::push(&args, global, &env, printer).await,
        Command::Update(args) => update::update(&args, global, &env, printer).await,
        Command::Vet(args) => vet::vet(&args, global, &env, printer).await,
        Command::List(args) => list::list(&args, global, &env, printer).await,
        Command::Doctor(args) => doctor::doctor(&args, global, &env, printer).await,
        Command::Trust(args) => trust::trust(&args, global, &env, printer),
        Command::Key(args) => key::key(&args, &env, printer),
        Command::Completions(args) => completions::completions(&args, definition(), printer),
    }
}

/// Returns the definition of the command line, for completions and docs.
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_sound() {
        super::definition().debug_assert();
    }

    #[test]
    fn the_help_shows_no_value_of_the_surroundings() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments() {
                assert!(arg.get_env().is_none() || arg.is_hide_env_values_set(), "{arg}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&super::definition());
    }
}
