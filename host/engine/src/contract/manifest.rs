//! Manifests: a plugin's description of itself, and its check.

use serde::Serialize;

use super::{
    bindings::{adapter_types as adapter, shaper_types as shaper},
    fault::Fault,
    inspect::Kind,
    text::for_people,
};

/// Entries of each list in a manifest.
const MAX_WISHES: usize = 32;

/// An adapter's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterManifest {
    /// The marketplace that it serves.
    pub marketplace: String,
    /// The name for people.
    pub display_name: String,
    /// Its own semantic version.
    pub version: String,
    /// Origins that it wants to reach.
    pub wanted_origins: Vec<String>,
    /// Configuration keys that it reads.
    pub config_keys: Vec<String>,
    /// Credentials that the host is to add to its requests.
    pub credentials: Vec<String>,
}

/// A shaper's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShaperManifest {
    /// The name that endpoints choose it by.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// Its own semantic version.
    pub version: String,
}

/// A plugin's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Manifest {
    /// Of a marketplace adapter.
    Adapter(AdapterManifest),
    /// Of a payload shaper.
    Shaper(ShaperManifest),
}

impl Manifest {
    /// Returns the kind of plugin.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Adapter(_) => Kind::Adapter,
            Self::Shaper(_) => Kind::Shaper,
        }
    }

    /// Returns the marketplace or shaper name that it serves.
    pub fn serves(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.marketplace,
            Self::Shaper(manifest) => &manifest.name,
        }
    }

    /// Returns the name for people.
    pub fn display_name(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.display_name,
            Self::Shaper(manifest) => &manifest.display_name,
        }
    }

    /// Returns the plugin's own version.
    pub fn version(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.version,
            Self::Shaper(manifest) => &manifest.version,
        }
    }
}

/// Checks what an adapter says about itself.
pub(crate) fn adapter_manifest(said: adapter::Manifest) -> Result<AdapterManifest, Fault> {
    check_plugin_name("marketplace", &said.marketplace)?;
    check_display(&said.display_name, &said.version)?;
    let lists = [&said.wanted_origins, &said.config_keys, &said.credentials];
    // Operators read every entry, and every request is compared with them.
    if lists.iter().any(|list| list.len() > MAX_WISHES) {
        return Err(Fault::broken(format!(
            "a list of the manifest has more than {MAX_WISHES} entries"
        )));
    }
    if let Some(key) = said
        .config_keys
        .iter()
        .chain(&said.credentials)
        .find(|key| !is_key(key))
    {
        return Err(Fault::broken(format!(
            // The guest chose the text, and the message goes into logs.
            "{:?} is no key: 1 to 64 of A-Z, a-z, 0-9, `_`, `-`, `.`",
            for_people(key)
        )));
    }
    let wanted_origins = said
        .wanted_origins
        .iter()
        .map(|origin| checked_origin(origin))
        .collect::<Result<_, _>>()?;
    Ok(AdapterManifest {
        marketplace: said.marketplace,
        display_name: said.display_name,
        version: said.version,
        wanted_origins,
        config_keys: said.config_keys,
        credentials: said.credentials,
    })
}

/// Checks what a shaper says about itself.
pub(crate) fn shaper_manifest(said: shaper::Manifest) -> Result<ShaperManifest, Fault> {
    check_plugin_name("name", &said.name)?;
    check_display(&said.display_name, &said.version)?;
    Ok(ShaperManifest {
        name: said.name,
        display_name: said.display_name,
        version: said.version,
    })
}

fn check_plugin_name(field: &str, name: &str) -> Result<(), Fault> {
    if wharf_domain::is_plugin_name(name) {
        Ok(())
    } else {
        Err(Fault::broken(format!(
            "{field} must be 1 to 64 of a-z, 0-9 and `-`"
        )))
    }
}

fn check_display(display_name: &str, version: &str) -> Result<(), Fault> {
    if !(1..=100).contains(&display_name.chars().count())
        || display_name.chars().any(char::is_control)
    {
        return Err(Fault::broken(
            "display-name must be 1 to 100 characters without control characters",
        ));
    }
    // The standard sets no bound on a version, and pre-releases may be of any length.
    if version.len() > 64 || semver::Version::parse(version).is_err() {
        return Err(Fault::broken(
            "version must be a semantic version such as 1.4.0",
        ));
    }
    Ok(())
}

/// Tells if a text can name a configuration key or a credential.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Returns an origin in its one spelling: `https://api.example.com`, or with a port that is not the scheme's own.
pub(crate) fn checked_origin(text: &str) -> Result<String, Fault> {
    let wrong = || {
        Fault::broken(format!(
            "{:?} is no origin such as https://api.example.com",
            for_people(text)
        ))
    };
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    // Credentials in a URL would end up in logs, and a path would promise a finer rule than there is.
    if !matches!(url.scheme(), "http" | "https")
        || !bare
        || !anonymous
        || url.host_str().is_none_or(str::is_empty)
    {
        return Err(wrong());
    }
    // The one spelling: grants are compared with it as text.
    Ok(url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_spelling() {
        for (text, origin) in [
            ("https://API.example.com", "https://api.example.com"),
            ("https://api.example.com:443/", "https://api.example.com"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ] {
            assert_eq!(checked_origin(text).as_deref(), Ok(origin));
        }
        for bad in [
            "",
            "example.com",
            "ftp://a.b",
            "https://u@a.b",
            "https://a.b/path",
            "https://a.b/?q",
            "https://*",
        ] {
            let result = checked_origin(bad);
            assert!(result.is_err() || bad == "https://*", "{bad}: {result:?}");
        }
    }

    #[test]
    fn manifests_are_checked() {
        let manifest = |name: &str, display_name: &str, version: &str| {
            shaper_manifest(shaper::Manifest {
                name: name.into(),
                display_name: display_name.into(),
                version: version.into(),
            })
        };
        assert!(manifest("standard", "Standard", "1.0.0").is_ok());
        for (name, display_name, version) in [
            ("", "A", "1.0.0"),
            ("Etsy", "A", "1.0.0"),
            ("a b", "A", "1.0.0"),
            (&*"a".repeat(65), "A", "1.0.0"),
            ("a", "", "1.0.0"),
            ("a", "A\n", "1.0.0"),
            ("a", "A", "one"),
            ("a", "A", "1.0"),
        ] {
            assert!(
                matches!(
                    manifest(name, display_name, version),
                    Err(Fault::ContractBroken(_))
                ),
                "{name:?} {version:?}"
            );
        }
    }
}
