//! Reading of the command line and the environment: everything that is wrong with the settings in one answer.

use std::{error::Error, ffi::OsString};

use clap::{
    Arg, Command, CommandFactory, FromArgMatches,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    cli::Cli,
    settings::{SettingError, WrongSettings},
};

/// Reads the command line and the environment; ends the program where they ask for help, or where the command line is
/// wrong beyond its settings.
///
/// # Errors
/// Every setting that is wrong.
pub(crate) fn read() -> Result<Cli, WrongSettings> {
    let command = without_variables(Cli::command(), &is_empty);
    let (cli, wrong) = parse(command, std::env::args_os().collect());
    WrongSettings::refuse(wrong)?;
    Ok(cli)
}

/// clap stops at the first wrong value. It is taken away then, so that the next one shows.
fn parse(mut command: Command, mut words: Vec<OsString>) -> (Cli, Vec<SettingError>) {
    let mut wrong = Vec::new();
    loop {
        let error = match command.clone().try_get_matches_from(&words) {
            Ok(matches) => match Cli::from_arg_matches(&matches) {
                Ok(cli) => {
                    cli.check(&mut wrong);
                    return (cli, wrong);
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let Some(bad) = Bad::of(&error) else {
            error.exit();
        };
        wrong.push(bad.to_error());
        if !bad.take_from(&mut words) {
            let name = bad.name.clone();
            let is_it = move |arg: &Arg| arg.get_env().is_some_and(|env| *env == *name);
            if !has(&command, &is_it) {
                error.exit();
            }
            command = without_variables(command, &is_it);
        }
    }
}

/// A setting with a value that it cannot have.
struct Bad {
    /// The variable, which is the value's name in every help text too.
    name: String,
    flag: String,
    value: String,
    why: String,
}

impl Bad {
    fn of(error: &clap::Error) -> Option<Self> {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        let why = match error.kind() {
            ErrorKind::ValueValidation => error.source()?.to_string(),
            ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue)? {
                ContextValue::Strings(valid) => format!("must be one of {}", valid.join(", ")),
                _ => return None,
            },
            _ => return None,
        };
        // `--port <PORT>`
        let arg = text(ContextKind::InvalidArg)?;
        let (flag, rest) = arg.split_once(['<', '['])?;
        let name = rest
            .trim_start_matches(['=', '<'])
            .trim_end_matches([']', '>']);
        Some(Self {
            name: name.to_owned(),
            flag: flag.trim().to_owned(),
            value: text(ContextKind::InvalidValue)?,
            why,
        })
    }

    fn to_error(&self) -> SettingError {
        // Secrets have no flags: what clap judges may be shown.
        SettingError::new(&self.name, format!("is {:?}: {}", self.value, self.why))
    }

    /// Takes the flag off the command line. Returns false if it is not there: then the environment has it.
    fn take_from(&self, words: &mut Vec<OsString>) -> bool {
        let joined = OsString::from(format!("{}={}", self.flag, self.value));
        if let Some(at) = words.iter().position(|word| *word == joined) {
            words.remove(at);
            return true;
        }
        let pair = [self.flag.as_str(), self.value.as_str()];
        let Some(at) = words.windows(2).position(|two| two == pair) else {
            return false;
        };
        words.drain(at..at + 2);
        true
    }
}

/// An empty environment variable counts as unset: that is what `docker compose` and `.env` files make of an unset one.
fn is_empty(arg: &Arg) -> bool {
    let value = arg.get_env().and_then(std::env::var_os);
    value.is_some_and(|value| value.is_empty())
}

/// Lets these arguments forget their variables, so that their defaults count.
fn without_variables(command: Command, which: &impl Fn(&Arg) -> bool) -> Command {
    command
        .mut_args(|arg| {
            if which(&arg) {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(|subcommand| without_variables(subcommand, which))
}

fn has(command: &Command, which: &impl Fn(&Arg) -> bool) -> bool {
    command.get_arguments().any(which)
        || command
            .get_subcommands()
            .any(|subcommand| has(subcommand, which))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(words: &[&str]) -> String {
        let words = words.iter().map(OsString::from).collect();
        let (_, wrong) = parse(Cli::command(), words);
        WrongSettings::refuse(wrong).expect_err("wrong").to_string()
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let said = wrong(&[
            "wharf",
            "--log-level",
            "warning",
            "serve",
            "--port=http",
            "--lease",
            "10ms",
            "--migrate",
            "maybe",
        ]);
        assert!(said.starts_with("4 settings are wrong\n"), "{said}");
        for one in [
            "LOG_LEVEL is \"warning\": must be off",
            "PORT is \"http\": invalid digit",
            "LEASE is \"10ms\": must be from 1s to 1h",
            "MIGRATE is \"maybe\": must be one of auto, check",
        ] {
            assert!(said.contains(one), "{said}");
        }
    }

    #[test]
    fn one_is_told_in_one_line() {
        let said = wrong(&["wharf", "worker", "sync", "--plugin-threads", "10000"]);
        assert_eq!(
            said,
            "the setting PLUGIN_THREADS is \"10000\": must be a number from 1 to 256"
        );
    }
}
