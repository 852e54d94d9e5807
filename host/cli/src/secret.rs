//! Secrets among the settings: from the environment, or from a file that it names. Never from the command line, which
//! every user of the machine can read.
#![allow(
    clippy::disallowed_methods,
    reason = "read once at the start, before anything is served"
)]

use std::{ffi::OsString, fs::File, io::Read, path::Path};

use secrecy::{ExposeSecret, SecretString};

use crate::settings::SettingError;

/// Shorter ones can be guessed.
pub(crate) const MIN_CHARACTERS: usize = 16;
/// The largest file that is read as a secret: a larger one is something else.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A secret that a setting gives, if it gives one.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    name: &'static str,
    given: Result<Option<SecretString>, SettingError>,
}

impl Secret {
    /// Reads the variable `name`, or the file that `<name>_FILE` names. An empty variable counts as unset.
    pub(crate) fn of_environment(name: &'static str) -> Self {
        let given = read(name, &|name| std::env::var_os(name));
        Self { name, given }
    }

    /// The value; `None` too where it cannot be read, which [`check`](Self::check) tells.
    pub(crate) fn value(&self) -> Option<&SecretString> {
        self.given.as_ref().ok()?.as_ref()
    }

    /// The value, to be looked at.
    pub(crate) fn expose(&self) -> Option<&str> {
        self.value().map(SecretString::expose_secret)
    }

    /// Refuses what cannot be read, and a value that `rule` finds fault with.
    ///
    /// # Errors
    /// The setting, with what `rule` says.
    pub(crate) fn check<W: Into<String>>(
        &self,
        rule: impl FnOnce(&str) -> Result<(), W>,
    ) -> Result<(), SettingError> {
        match &self.given {
            Ok(Some(value)) => {
                rule(value.expose_secret()).map_err(|why| SettingError::new(self.name, why))
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error.clone()),
        }
    }
}

/// Refuses a secret that can be guessed.
pub(crate) fn long_enough(value: &str) -> Result<(), &'static str> {
    if value.chars().count() < MIN_CHARACTERS {
        return Err("must have at least 16 characters");
    }
    Ok(())
}

/// Reads a secret by the variables that `variable` knows: one with this name, or one with the name of its file.
///
/// # Errors
/// If both are set, or the value or the file cannot be read. The message holds neither.
pub(crate) fn read(
    name: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<SecretString>, SettingError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let file_name = format!("{name}_FILE");
    match (set(name), set(&file_name)) {
        (None, None) => Ok(None),
        // Which of them is meant cannot be known, and the wrong one may be an old key.
        (Some(_), Some(_)) => Err(SettingError::new(
            name,
            format!("must not be set together with {file_name}"),
        )),
        (Some(value), None) => match value.into_string() {
            Ok(value) => Ok(Some(value.into())),
            Err(_) => Err(SettingError::new(name, "must be UTF-8")),
        },
        (None, Some(path)) => from_file(Path::new(&path))
            .map(Some)
            .map_err(|why| SettingError::new(file_name, why)),
    }
}

/// Reads a file without the end of its line. Its mode is not looked at: Docker and Kubernetes mount secrets for all users
/// of a container.
fn from_file(path: &Path) -> Result<SecretString, String> {
    let mut text = String::new();
    let file =
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    // Without the path: somebody may have put the secret itself there.
    file.map_err(|error| format!("names a file that cannot be read: {error}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err("names a file that is larger than 64 KiB".into());
    }
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("names a file that is empty".into()),
        secret => Ok(secret.into()),
    }
}

#[cfg(test)]
impl Secret {
    /// A secret as if the environment gave it.
    pub(crate) fn given(name: &'static str, value: &str) -> Self {
        let given = Ok(Some(value.into()));
        Self { name, given }
    }

    /// A secret that is not set.
    pub(crate) fn unset(name: &'static str) -> Self {
        Self {
            name,
            given: Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| OsString::from(value))
        };
        read("TOKEN", &find)
            .map(|value| value.map(|value| value.expose_secret().to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_stands_in_a_variable_or_in_a_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        fs::write(&path, "from the file\r\n").expect("written");
        let file = path.to_str().expect("text");
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("TOKEN", ""), ("TOKEN_FILE", "")]), Ok(None));
        assert_eq!(of(&[("TOKEN", "given")]), Ok(Some("given".into())));
        assert_eq!(
            of(&[("TOKEN_FILE", file)]),
            Ok(Some("from the file".into()))
        );
        let both = of(&[("TOKEN", "given"), ("TOKEN_FILE", file)]).expect_err("one of them");
        assert!(
            both.contains("TOKEN_FILE") && !both.contains("given"),
            "{both}"
        );
    }

    #[test]
    fn files_that_hold_no_secret_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let file = path.to_str().expect("text");
        let absent = of(&[("TOKEN_FILE", file)]).expect_err("absent");
        assert!(
            absent.contains("TOKEN_FILE") && !absent.contains(file),
            "{absent}"
        );
        for content in [&b"\n"[..], b"\xff\xfe", &[b'a'; 64 * 1024 + 1]] {
            fs::write(&path, content).expect("written");
            assert!(of(&[("TOKEN_FILE", file)]).is_err());
        }
    }

    #[test]
    fn short_secrets_are_refused() {
        assert!(long_enough("0123456789abcdef").is_ok());
        assert!(long_enough("0123456789abcde").is_err());
        let short = Secret::given("WEBHOOK_SECRET", "hidden").check(long_enough);
        let said = short.expect_err("short").to_string();
        assert!(
            said.contains("WEBHOOK_SECRET") && !said.contains("hidden"),
            "{said}"
        );
    }
}
