//! The token of the admin API.

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use secrecy::SecretString;
use wharf_domain::KeyText;

use crate::{
    logging::Style,
    output,
    secret::{self, Secret},
    secret_file::{self, Origin},
    settings::{DataArgs, Deployment, SettingError, WrongSettings},
};

// As many bits as the digest has by which the API compares it.
const TOKEN_BYTES: usize = 32;

/// The setting.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminTokenArgs {
    #[arg(skip = Secret::of_environment("WHARF_ADMIN_TOKEN"))]
    admin_token: Secret,
    /// What clients send instead.
    #[arg(skip = api_key())]
    api_key: Secret,
}

/// The key that a client sends.
pub(crate) fn api_key() -> Secret {
    Secret::of_environment("WHARF_API_KEY")
}

/// Refuses what cannot be a key, and says nothing of it.
pub(crate) fn check_api_key(key: &Secret) -> Result<(), SettingError> {
    key.check(|text| match KeyText::parse(text) {
        Some(_) => Ok(()),
        None => Err("is no key, or has a typing error: keys begin with wharf_"),
    })
}

impl AdminTokenArgs {
    /// Refuses a token that can be guessed or not be sent in a header.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        self.admin_token.check(|token| {
            // A header carries visible ASCII alone, and a blank would end the token.
            if token.bytes().all(|byte| byte.is_ascii_graphic()) {
                secret::long_enough(token)
            } else {
                Err("must be visible ASCII characters")
            }
        })
    }

    /// The token that a host asks for; `None` switches the admin API off. The data folder must exist.
    ///
    /// # Errors
    /// If the file cannot be made or read.
    pub(crate) fn of_host(
        &self,
        deployment: Deployment,
        data: &DataArgs,
        style: Style,
    ) -> anyhow::Result<Option<SecretString>> {
        match (self.admin_token.value(), deployment) {
            (Some(token), _) => Ok(Some(token.clone())),
            // None is made: each process would make another one, and a client could not tell which of them answers.
            (None, Deployment::Shared) => {
                tracing::warn!("the admin API is off: WHARF_ADMIN_TOKEN is not set");
                Ok(None)
            }
            (None, Deployment::Embedded) => from_file(&file(data), style).map(Some),
        }
    }

    /// The token that a client sends: `WHARF_API_KEY`, `WHARF_ADMIN_TOKEN`, or what a host on this machine keeps in its data folder.
    ///
    /// # Errors
    /// If there is neither.
    #[allow(
        clippy::disallowed_methods,
        reason = "a client waits for its token anyway"
    )]
    pub(crate) fn of_client(&self, data: &DataArgs) -> anyhow::Result<SecretString> {
        check_api_key(&self.api_key).map_err(WrongSettings::from)?;
        // The key first: it may do less, and the audit names it.
        if let Some(token) = self.api_key.value().or(self.admin_token.value()) {
            return Ok(token.clone());
        }
        let path = file(data);
        let text = std::fs::read_to_string(&path).with_context(|| {
            let path = path.display();
            format!("no admin token: set WHARF_API_KEY or WHARF_ADMIN_TOKEN, or name the host's data folder by --data-dir; {path} cannot be read")
        })?;
        // The file is a line, and its end is no part of the token.
        Ok(text.trim().into())
    }
}

fn file(data: &DataArgs) -> PathBuf {
    data.data_dir.join("admin-token")
}

/// Made at the first start, and shown then and never again: people read the line, programs the file.
fn from_file(path: &Path, style: Style) -> anyhow::Result<SecretString> {
    let (token, origin) = secret_file::read_or_make(path, || {
        Ok(URL_SAFE_NO_PAD.encode(wharf_app::random::<TOKEN_BYTES>()))
    })
    .with_context(|| format!("the admin token's file {}", path.display()))?;
    if origin == Origin::Made {
        tracing::info!(path = %path.display(), "the admin token was made");
        // Where programs read the output it is collected: then only the file has the token.
        if style == Style::People {
            output::line(&format!(
                "the admin API's token, also in {}: {token}",
                path.display()
            ));
        }
    }
    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const NAME: &str = "WHARF_ADMIN_TOKEN";

    fn args(token: &str) -> AdminTokenArgs {
        AdminTokenArgs {
            admin_token: Secret::given(NAME, token),
            api_key: Secret::unset("WHARF_API_KEY"),
        }
    }

    fn unset() -> AdminTokenArgs {
        AdminTokenArgs {
            admin_token: Secret::unset(NAME),
            api_key: Secret::unset("WHARF_API_KEY"),
        }
    }

    #[test]
    fn weak_tokens_are_refused() {
        assert!(args("0123456789abcdef").check().is_ok());
        assert!(unset().check().is_ok());
        for weak in [
            "short",
            "0123456789 abcdef",
            "0123456789äbcdef",
            "0123456789abcdef\n",
        ] {
            assert!(args(weak).check().is_err(), "{weak:?}");
        }
    }

    #[test]
    fn host_and_client_agree_on_the_made_token() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataArgs {
            data_dir: dir.path().into(),
        };
        let unset = unset();
        assert!(unset.of_client(&data).is_err());
        let made = unset
            .of_host(Deployment::Embedded, &data, Style::Programs)
            .expect("a token")
            .expect("made");
        assert!(made.expose_secret().len() > secret::MIN_CHARACTERS);
        assert_eq!(
            unset.of_client(&data).expect("a token").expose_secret(),
            made.expose_secret()
        );
        assert!(
            unset
                .of_host(Deployment::Shared, &data, Style::Programs)
                .expect("no error")
                .is_none()
        );
    }
}
