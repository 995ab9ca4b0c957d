//! The command line: arguments, output, hints, exit codes; one file per verb.
//!
//! Owns what a person sees. A verb's file holds its `Args` and `run`; what it does lies in the modules below.
//! Data goes to standard output, everything else to standard error. Exit codes: 0 success, 1 failure, 2 wrong usage.

mod advice;
mod analyze;
mod build;
mod build_contexts;
mod build_images;
mod build_input;
mod build_output;
mod build_progress;
mod build_push;
mod cat;
mod changes;
mod commit;
mod complete;
mod completions;
mod container_options;
mod copy_out;
mod cp;
mod df;
mod diff;
mod ending;
mod error;
mod exec;
mod explore;
mod export;
mod fsck;
mod glob;
mod history;
mod human;
mod image_argument;
mod images;
mod import;
mod inspect;
mod kill;
mod limit_options;
mod limits;
mod load;
mod login;
mod logout;
mod ls;
mod man;
mod mount;
mod named;
mod output;
mod overlay;
mod owners;
mod progress;
mod prune;
mod ps;
mod pull;
mod pull_first;
mod push;
mod registry_options;
mod remote;
mod rename;
mod rm;
mod rmi;
mod run;
mod save;
mod squash;
mod stop;
mod table;
mod tag;
mod transfer;
mod umount;
mod usage;
mod whence;

use crate::model::harmless;
pub use crate::model::printable;
pub use error::{Hinted, WithHint};
pub use human::human_size;

use crate::store::Store;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Mount container images as directories; build, inspect and move them
#[derive(Debug, Parser)]
#[command(name = "layerfs", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where images and mounts are kept [default: /var/lib/layerfs for root, $XDG_DATA_HOME/layerfs otherwise]
    #[arg(long, global = true, env = "LAYERFS_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Say more on standard error: once for informational messages, twice for debugging, three times for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// The store that this command works on.
    pub(super) fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.root.clone().unwrap_or_else(Store::default_root))?)
    }

    /// The store for who only looks at what is in it: none is made where there is none.
    pub(super) fn store_if_there(&self) -> anyhow::Result<Option<Store>> {
        let root = self.root.clone().unwrap_or_else(Store::default_root);
        // What is there but cannot be looked at is for opening it to tell.
        let missing = std::fs::metadata(&root).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        if missing { Ok(None) } else { self.store().map(Some) }
    }
}

/// What can be done. One variant a verb, in the order of the help page.
#[derive(Debug, Subcommand)]
enum Verb {
    Mount(mount::Args),
    Overlay(overlay::Args),
    Umount(umount::Args),
    Ps(ps::Args),
    Ls(ls::Args),
    Cat(cat::Args),
    Build(Box<build::Args>),
    Run(Box<run::Args>),
    Exec(exec::Args),
    Stop(stop::Args),
    Kill(kill::Args),
    Cp(cp::Args),
    Whence(whence::Args),
    Analyze(analyze::Args),
    Explore(explore::Args),
    Pull(pull::Args),
    Push(push::Args),
    Load(load::Args),
    Import(import::Args),
    Save(save::Args),
    Export(export::Args),
    Squash(squash::Args),
    Diff(diff::Args),
    Commit(commit::Args),
    Images(images::Args),
    Inspect(inspect::Args),
    History(history::Args),
    Tag(tag::Args),
    Rmi(rmi::Args),
    Rm(rm::Args),
    Rename(rename::Args),
    Prune(prune::Args),
    Df(df::Args),
    Fsck(fsck::Args),
    Login(login::Args),
    Logout(logout::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    crate::sandbox::reenter();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(printed) = overlay::print_version(&arguments) {
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    clap_complete::CompleteEnv::with_factory(Cli::command).var(completions::VARIABLE).complete();
    let arguments = overlay::translate(arguments);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &arguments),
    };
    init_log(cli.global.verbose);
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            error::report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Mount(args) => mount::run(args, global),
        Verb::Overlay(args) => overlay::run(args, global),
        Verb::Umount(args) => umount::run(args, global),
        Verb::Ps(args) => ps::run(args, global),
        Verb::Ls(args) => ls::run(args, global),
        Verb::Cat(args) => cat::run(args, global),
        Verb::Build(args) => build::run(args, global),
        Verb::Run(args) => run::run(args, global),
        Verb::Exec(args) => exec::run(args, global),
        Verb::Stop(args) => stop::run(args, global),
        Verb::Kill(args) => kill::run(args, global),
        Verb::Cp(args) => cp::run(args, global),
        Verb::Whence(args) => whence::run(args, global),
        Verb::Analyze(args) => analyze::run(args, global),
        Verb::Explore(args) => explore::run(args, global),
        Verb::Pull(args) => pull::run(args, global),
        Verb::Push(args) => push::run(args, global),
        Verb::Load(args) => load::run(args, global),
        Verb::Import(args) => import::run(args, global),
        Verb::Save(args) => save::run(args, global),
        Verb::Export(args) => export::run(args, global),
        Verb::Squash(args) => squash::run(args, global),
        Verb::Diff(args) => diff::run(args, global),
        Verb::Commit(args) => commit::run(args, global),
        Verb::Images(args) => images::run(args, global),
        Verb::Inspect(args) => inspect::run(args, global),
        Verb::History(args) => history::run(args, global),
        Verb::Tag(args) => tag::run(args, global),
        Verb::Rmi(args) => rmi::run(args, global),
        Verb::Rm(args) => rm::run(args, global),
        Verb::Rename(args) => rename::run(args, global),
        Verb::Prune(args) => prune::run(args, global),
        Verb::Df(args) => df::run(args, global),
        Verb::Fsck(args) => fsck::run(args, global),
        Verb::Login(args) => login::run(args, global),
        Verb::Logout(args) => logout::run(args, global),
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args, Cli::command()),
    }
}

/// Whether the FUSE library tells that the kernel has no request for an answer. So it is with the answer that there is no such thing as
/// interrupting, when what was to be interrupted is over by then (`fuse_dev_do_write` in fs/fuse/dev.c): nothing is lost.
fn is_answer_to_nobody(record: &log::Record<'_>) -> bool {
    record.target() == "fuser::reply"
        && record.args().to_string().ends_with(&std::io::Error::from_raw_os_error(libc::ENOENT).to_string())
}

/// Logs to standard error; `RUST_LOG` overrides what `--verbose` says. The HTTP and TLS libraries are kept from their finest
/// level: there they write whole addresses, and signed ones carry secrets.
fn init_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filters = std::env::var("RUST_LOG").unwrap_or_else(|_| level.to_owned());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&filters);
    if !filters.to_ascii_lowercase().contains("fuser") {
        // It warns of every kind of request that is left to its own answer, which is meant.
        builder.filter_module("fuser", log::LevelFilter::Error);
    }
    if filters.to_ascii_lowercase().contains("trace") {
        for module in ["ureq", "ureq::util", "ureq_proto", "rustls"] {
            builder.filter_module(module, log::LevelFilter::Debug);
        }
    }
    // Whoever asked for nothing reads warnings as he reads errors. A server's log is read later, and wants the time.
    let unasked = verbose == 0 && std::env::var_os("RUST_LOG").is_none();
    let plain = unasked && !crate::mount::background::is_background();
    builder.format(move |line, record| {
        if unasked && is_answer_to_nobody(record) {
            return Ok(());
        }
        if plain && record.level() == log::Level::Warn {
            return writeln!(line, "layerfs: warning: {}", harmless(&error::in_words(&record.args().to_string())));
        }
        let (time, level) = (line.timestamp_seconds(), record.level());
        let style = line.default_level_style(level);
        let message = harmless(&record.args().to_string());
        writeln!(line, "[{time} {style}{level:<5}{style:#} {}] {message}", record.target())
    });
    builder.init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_answers_to_requests_that_are_over_are_not_told() {
        let is_told = |target: &str, number: i32| {
            let text = format!("Failed to send FUSE reply: {}", std::io::Error::from_raw_os_error(number));
            !is_answer_to_nobody(&log::Record::builder().target(target).args(format_args!("{text}")).build())
        };
        assert!(!is_told("fuser::reply", libc::ENOENT));
        assert!(is_told("fuser::reply", libc::EFAULT));
        assert!(is_told("layerfs::fs", libc::ENOENT));
    }
}
