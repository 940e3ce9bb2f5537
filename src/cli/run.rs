//! `sidegate run`: the proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::{BAD_INPUT, report};
use crate::app::descriptors;
use crate::app::{self, App, StartError};
use crate::config::{Config, KEYS, Override};
use crate::diagnostic::{Code, Diagnostic, Source};
use crate::policy::Mode;
use crate::reload::{Loaded, Origin};
use crate::version;

/// Run the proxy.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration file
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "SIDEGATE_CONFIG",
        default_value = "/etc/sidegate/sidegate.yaml"
    )]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

/// A flag and an environment variable for every key of the configuration.
#[derive(Debug, Default)]
pub(super) struct Overrides(Vec<Override>);

impl Overrides {
    pub(super) fn given(&self) -> &[Override] {
        &self.0
    }
}

impl Args for Overrides {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().fold(command, |command, key| {
            let help = match key.default() {
                None => key.help.to_owned(),
                Some(default) => format!("{} [default of {}: {default}]", key.help, key.path),
            };
            let arg = Arg::new(key.path)
                .long(key.flag())
                .env(key.variable())
                .value_name(key.value)
                .help(help)
                .help_heading("Overrides of the configuration file");
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Overrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = KEYS.iter().filter_map(|key| {
            let value = matches.get_one::<String>(key.path)?;
            let name = match matches.value_source(key.path) {
                Some(ValueSource::EnvVariable) => key.variable(),
                _ => format!("--{}", key.flag()),
            };
            Some(Override { key: key.path, source: Source::new(name, value.as_str()) })
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Run {
    pub(super) fn run(self) -> ExitCode {
        let loaded = match Origin::new(self.config, &self.overrides.0).load() {
            Ok(loaded) => loaded,
            Err(problems) => {
                report(&problems);
                return ExitCode::from(BAD_INPUT);
            }
        };
        report(&loaded.warnings);
        match serve(loaded) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                report(&[Diagnostic::error(Code::Start, error.to_string())]);
                ExitCode::from(BAD_INPUT)
            }
        }
    }
}

fn serve(loaded: Loaded) -> Result<(), StartError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error| StartError { what, error }
    };
    let config = loaded.config.clone();
    let log = app::start_log(&config);
    let nothing_allowed = loaded.live.policy.allows_nothing() && loaded.live.mode == Mode::Enforce;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("cannot start a runtime"))?;
    runtime.block_on(async {
        let app = App::start(loaded, Some(log.dropped()))?;
        let (stop, abort) = app::signals().map_err(failed("cannot listen to signals"))?;
        if nothing_allowed {
            tracing::warn!(policies = %config.policies.value.display(), "the policy allows nothing: every request will be denied");
        }
        if let Some(warning) = descriptors::limit().and_then(|limit| descriptors::shortage(&config, limit)) {
            tracing::warn!(code = warning.code.name(), help = warning.help.as_deref(), "{}", warning.message);
        }
        if config.mode == Mode::Audit {
            tracing::warn!("mode: audit: no policy is enforced, requests that would be denied are forwarded and recorded");
        }
        announce(&app, &config);
        app.serve(stop, abort).await.map_err(failed("cannot serve"))
    })
}

fn announce(app: &App, config: &Config) {
    let listen = app.listen_address().map_or_else(|error| error.to_string(), |address| address.to_string());
    let admin = app.admin_address().map(|address| address.to_string()).unwrap_or_default();
    let backend = config.backend.location.to_string();
    tracing::info!(
        version = version::VERSION,
        commit = version::COMMIT,
        listen,
        admin,
        backend,
        workers = config.workers,
        "ready"
    );
}
