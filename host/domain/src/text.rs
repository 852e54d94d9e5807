//! Texts from clients, parsed once at the border.

use std::fmt;

/// The reason why a value was refused, in words for the person who sent it: `must not be empty`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// The contract's rule for every text: not empty, no NUL (PostgreSQL keeps none), at most `most` characters.
pub fn bounded_text(value: &str, most: usize) -> Result<String, Invalid> {
    if value.is_empty() {
        Err(Invalid("must not be empty".into()))
    } else if value.contains('\0') {
        Err(Invalid("must not contain NUL".into()))
    // Characters, not bytes: the limit is the client's view of its text.
    } else if value.chars().count() > most {
        Err(Invalid(format!("must be at most {most} characters")))
    } else {
        Ok(value.to_owned())
    }
}

/// The plugin contract's rule for what a plugin calls itself: 1 to 64 of a-z, 0-9 and `-`.
pub fn is_plugin_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(valid)
}

fn plugin_name(value: &str, most: usize) -> Result<String, Invalid> {
    // The general rule first, for its plainer words about an empty name and a long one.
    let name = bounded_text(value, most)?;
    if is_plugin_name(&name) {
        Ok(name)
    } else {
        Err(Invalid("must consist of a-z, 0-9 and -".into()))
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident $most:literal $rule:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The most characters that it may have.
            pub const MAX: usize = $most;

            /// Refuses an empty text, a NUL and a text that is too long; as a plugin's name, what no plugin can be
            /// called.
            pub fn parse(value: &str) -> Result<Self, Invalid> {
                $rule(value, Self::MAX).map(Self)
            }

            /// A text that was parsed before it was stored.
            pub fn from_stored(value: String) -> Self {
                Self(value)
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

texts! {
    /// The organization that stores and webhooks belong to.
    OrganizationId 255 bounded_text
    /// The name of a marketplace, as its adapter has it.
    MarketplaceName 64 plugin_name
    /// The store's own id at its marketplace.
    ExternalStoreId 255 bounded_text
    /// The store's name for people.
    StoreName 255 bounded_text
    /// The name of an order at the marketplace that a client asks us to import.
    Receipt 255 bounded_text
    /// The name of a payload shaper, as its plugin has it.
    ShaperName 64 plugin_name
}

impl OrganizationId {
    /// The owner of what belongs to the operator of the host: endpoints for its own events, and its requests' keys. Its
    /// name is empty, which [`parse`](Self::parse) refuses, so no client can name it.
    pub fn operator() -> Self {
        Self(String::new())
    }

    /// True of the operator's own.
    pub fn is_operator(&self) -> bool {
        self.0.is_empty()
    }
}

impl ShaperName {
    /// The shaper of the original service's payload, used where an endpoint names none.
    pub fn standard() -> Self {
        Self("standard".into())
    }
}

/// A store's access token at its marketplace: encrypted at rest, never logged, never shown to a guest.
#[derive(Clone)]
pub struct AccessToken(secrecy::SecretString);

impl AccessToken {
    /// The most characters that it may have.
    pub const MAX: usize = 8_192;

    /// Refuses an empty token, a NUL and more than 8,192 characters.
    pub fn parse(value: &str) -> Result<Self, Invalid> {
        bounded_text(value, Self::MAX).map(|token| Self(token.into()))
    }

    /// The token itself. Only for encrypting it and for the border of the sandbox.
    pub fn expose(&self) -> &str {
        secrecy::ExposeSecret::expose_secret(&self.0)
    }
}

/// The address of a webhook: an absolute http or https URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetUrl(url::Url, String);

impl TargetUrl {
    /// The most characters that it may have.
    pub const MAX: usize = 2_048;

    /// Refuses a URL that is not absolute http(s), has credentials, no host, blanks or more than 2,048 characters.
    pub fn parse(value: &str) -> Result<Self, Invalid> {
        let value = bounded_text(value, Self::MAX)?;
        let refuse = |why: &str| Err(Invalid(why.into()));
        // The parser strips them silently, and then what is shown is not what is called.
        if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refuse("must not contain blanks or control characters");
        }
        let Ok(url) = url::Url::parse(&value) else {
            return refuse("must be an absolute http or https URL");
        };
        // The URL standard forgives `http:/host`, `http:host` and `http:///host`; the contract does not.
        let Some((scheme, rest)) = value.split_once("://") else {
            return refuse("must be an absolute http or https URL");
        };
        if !matches!(url.scheme(), "http" | "https")
            // `http:/host?to=http://x` has its `://` too late.
            || scheme.len() != url.scheme().len()
            // The parser takes `\` for `/`, and then the host is not where people read it.
            || value.contains('\\')
        {
            return refuse("must be an absolute http or https URL");
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // Credentials would be stored in clear and shown to whoever lists the endpoints.
        if authority.contains('@') {
            return refuse("must not contain credentials");
        }
        if authority.is_empty() || url.host_str().is_none_or(str::is_empty) {
            return refuse("must have a host");
        }
        Ok(Self(url, value))
    }

    /// The URL as the client wrote it: what is stored and shown.
    pub fn as_str(&self) -> &str {
        &self.1
    }

    /// The URL, parsed.
    pub const fn url(&self) -> &url::Url {
        &self.0
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded() {
        assert!(Receipt::parse("order-101").is_ok());
        assert!(
            Receipt::parse(&"ä".repeat(255)).is_ok(),
            "the limit counts characters"
        );
        for bad in ["", "a\0b", &"a".repeat(256)] {
            assert!(Receipt::parse(bad).is_err());
        }
        assert!(AccessToken::parse(&"t".repeat(8_192)).is_ok());
        assert!(AccessToken::parse(&"t".repeat(8_193)).is_err());
    }

    #[test]
    fn nobody_can_call_himself_the_operator() {
        let operator = OrganizationId::operator();
        assert!(operator.is_operator() && OrganizationId::parse(operator.as_str()).is_err());
        assert!(!OrganizationId::from_stored("org-1".into()).is_operator());
    }

    #[test]
    fn plugins_have_names_of_the_contract() {
        for good in ["etsy", "-", "0", &"a".repeat(64)] {
            assert!(MarketplaceName::parse(good).is_ok(), "{good}");
            assert!(ShaperName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Etsy", "a b", "a_b", "ä", "a\n", &"a".repeat(65)] {
            assert!(MarketplaceName::parse(bad).is_err(), "{bad:?}");
            assert!(ShaperName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn targets_are_absolute_http_urls() {
        for good in [
            "http://127.0.0.1:4000/webhook",
            "https://example.com",
            "HTTPS://example.com/a?b=c",
            "http://[::1]/",
        ] {
            assert_eq!(
                TargetUrl::parse(good)
                    .map(|url| url.as_str().to_owned())
                    .as_deref(),
                Ok(good)
            );
        }
        for bad in [
            "",
            "example.com",
            "/hook",
            "ftp://example.com/",
            "http://",
            "http:///x",
            "http:example.com",
            "http:/a.com",
            "http:\\\\a.com",
            "http://user@a.com/",
            "http://u:p@a.com/",
            "http://:p@a.com",
            "http://a b.com/",
            " http://a.com",
            "http://a.com/\n",
            "javascript:alert(1)",
            "http://a.com:99999/",
            "mailto:a@b.c",
        ] {
            assert!(TargetUrl::parse(bad).is_err(), "{bad:?}");
        }
    }
}
