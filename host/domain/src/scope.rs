//! Scopes: what a key may be used for.

use std::fmt;

use crate::Invalid;

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident $text:literal)*) => {
        /// What a key may be used for. Each stands for itself: none is part of another one but for
        /// [`Operator`](Self::Operator).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum KeyScope { $($(#[$doc])* $name,)* }

        impl KeyScope {
            /// Every scope.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

scopes! {
    /// Read orders.
    OrdersRead "orders:read"
    /// Import orders.
    OrdersWrite "orders:write"
    /// Read stores, their status and their receipts.
    StoresRead "stores:read"
    /// Register stores and have them synchronised.
    StoresWrite "stores:write"
    /// Read webhooks, without their secrets.
    WebhooksRead "webhooks:read"
    /// Register, change, test and delete webhooks.
    WebhooksWrite "webhooks:write"
    /// Read and replace webhooks' secrets.
    WebhooksSecrets "webhooks:secrets"
    /// Read deliveries.
    DeliveriesRead "deliveries:read"
    /// Send deliveries again.
    DeliveriesWrite "deliveries:write"
    /// Read and change plugins.
    Plugins "plugins:*"
    /// Make portal tokens; without an organization, make and revoke keys too.
    Keys "keys:*"
    /// Everything of every organization but webhooks' secrets.
    Operator "operator"
    /// Enable webhooks, replace their secrets and send again. Portal tokens alone have it.
    Care "portal:care"
}

impl KeyScope {
    /// The scope of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == name)
    }

    /// Asked for by every host, also by one that asks its clients for no key.
    pub const fn is_always_asked_for(self) -> bool {
        matches!(self, Self::Plugins | Self::Keys | Self::Operator)
    }

    /// A key may be made with it.
    pub const fn is_for_keys(self) -> bool {
        !matches!(self, Self::Care)
    }

    /// Beyond one organization, so that no organization's key has it.
    const fn is_for_operators(self) -> bool {
        matches!(self, Self::Plugins | Self::Operator)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct KeyScopes(u32);

impl KeyScopes {
    /// What a portal token that only reads may do.
    pub fn reading() -> Self {
        use KeyScope as S;
        [
            S::OrdersRead,
            S::StoresRead,
            S::WebhooksRead,
            S::DeliveriesRead,
        ]
        .into_iter()
        .collect()
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, scope: KeyScope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Every scope that there is.
    pub fn all() -> Self {
        KeyScope::ALL.iter().copied().collect()
    }

    /// Reads names that are divided by blanks.
    ///
    /// # Errors
    /// If there is none, or one that no key can have.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let scope = |name| KeyScope::parse(name).filter(|scope| scope.is_for_keys());
        let scopes: Option<Self> = text.split(' ').map(scope).collect();
        scopes.ok_or_else(|| {
            let keys = KeyScope::ALL.iter().filter(|scope| scope.is_for_keys());
            let names: Vec<_> = keys.map(|scope| scope.as_str()).collect();
            Invalid(format!(
                "must be one or several of {}, divided by single blanks",
                names.join(", ")
            ))
        })
    }

    /// Reads what [`Display`](fmt::Display) wrote. Names that this program does not know give no right.
    pub fn from_stored(text: &str) -> Self {
        text.split(' ').filter_map(KeyScope::parse).collect()
    }

    /// True where these scopes allow what asks for that one. An operator may do everything but read webhooks' secrets,
    /// which must be asked for by name.
    pub fn allow(self, scope: KeyScope) -> bool {
        let named = |scope: KeyScope| self.0 & scope.bit() != 0;
        named(scope) || (named(KeyScope::Operator) && scope != KeyScope::WebhooksSecrets)
    }

    /// Refuses an organization's key what reaches beyond the organization.
    ///
    /// # Errors
    /// The first such scope.
    pub fn check_for_organization(self) -> Result<(), Invalid> {
        let mut beyond = self.iter().filter(|scope| scope.is_for_operators());
        match beyond.next() {
            None => Ok(()),
            Some(scope) => Err(Invalid(format!(
                "must not have {} for one organization: it reaches all of them",
                scope.as_str()
            ))),
        }
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = KeyScope> {
        let all = KeyScope::ALL.iter().copied();
        all.filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<KeyScope> for KeyScopes {
    fn from_iter<I: IntoIterator<Item = KeyScope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, one| bits | one.bit()))
    }
}

impl fmt::Display for KeyScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(KeyScope::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for KeyScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let text = "stores:read orders:write";
        let scopes = KeyScopes::parse(text).expect("scopes");
        assert_eq!(scopes.to_string(), "orders:write stores:read");
        assert_eq!(KeyScopes::from_stored(&scopes.to_string()), scopes);
        assert_eq!(
            KeyScopes::from_stored("stores:read later:read").to_string(),
            "stores:read"
        );
        for bad in [
            "",
            " ",
            "stores",
            "stores:read  orders:read",
            "stores:read,orders:read",
            "portal:care",
        ] {
            assert!(KeyScopes::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_an_operator_has_what_it_was_not_given() {
        for own in KeyScope::ALL {
            let scopes: KeyScopes = [*own].into_iter().collect();
            for wanted in KeyScope::ALL {
                let expected = own == wanted
                    || (*own == KeyScope::Operator && *wanted != KeyScope::WebhooksSecrets);
                assert_eq!(scopes.allow(*wanted), expected, "{own:?} {wanted:?}");
            }
        }
    }

    #[test]
    fn an_organization_gets_nothing_beyond_itself() {
        let check = |text| {
            KeyScopes::parse(text)
                .expect("scopes")
                .check_for_organization()
        };
        assert!(check("keys:* webhooks:secrets").is_ok());
        assert!(check("stores:read operator").is_err() && check("plugins:*").is_err());
    }
}
