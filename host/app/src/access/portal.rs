//! Portal tokens: for an hour at most, for one organization, made by whoever may, to be given to a browser. They are no rows:
//! what a token says is signed by a subkey of the host's key. One ends early only with the key that made it.
//!
//! What it says: the key that made it (16 bytes; zeros for the admin token), the id of the host's key (8), the end in seconds
//! since 1970 (8), the rights (1), the organization.

use std::time::Duration;

use uuid::Uuid;
use wharf_domain::{ApiKeyId, KeyKind, KeyScope, KeyScopes, KeyText, OrganizationId, Time};
use wharf_store::{KeyId, api_keys};

use super::{Caller, KeyRefusal, cache::Verified};
use crate::{App, AppError};

/// The longest life of a token.
pub const MAX_PORTAL_LIFE: Duration = Duration::from_secs(60 * 60);

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalRights {
    /// Read stores, orders, webhooks and deliveries.
    Read,
    /// The same; and enable webhooks, replace their secrets and send again.
    Care,
}

impl PortalRights {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Read, Self::Care];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Care => "care",
        }
    }

    fn scopes(self) -> KeyScopes {
        match self {
            Self::Read => KeyScopes::reading(),
            Self::Care => KeyScopes::reading().with(KeyScope::Care),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Care => 1,
        }
    }
}

/// A token that was made.
#[derive(Clone, Debug)]
pub struct PortalToken {
    /// The token itself.
    pub token: String,
    /// When it ends.
    pub ends_at: Time,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    maker: Option<ApiKeyId>,
    key: KeyId,
    ends: i64,
    rights: PortalRights,
    organization: OrganizationId,
}

impl Said {
    fn to_bytes(&self) -> Vec<u8> {
        let maker = self.maker.map_or(Uuid::nil(), |key| key.0);
        let mut bytes = maker.as_bytes().to_vec();
        bytes.extend(self.key.0);
        bytes.extend(self.ends.to_be_bytes());
        bytes.push(self.rights.byte());
        bytes.extend(self.organization.as_str().as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (maker, rest) = bytes.split_first_chunk::<16>()?;
        let (key, rest) = rest.split_first_chunk::<8>()?;
        let (ends, rest) = rest.split_first_chunk::<8>()?;
        let (rights, organization) = rest.split_first()?;
        let maker = Uuid::from_bytes(*maker);
        Some(Self {
            maker: (!maker.is_nil()).then_some(ApiKeyId(maker)),
            key: KeyId(*key),
            ends: i64::from_be_bytes(*ends),
            rights: PortalRights::ALL
                .into_iter()
                .find(|one| one.byte() == *rights)?,
            organization: OrganizationId::parse(str::from_utf8(organization).ok()?).ok()?,
        })
    }

    fn ends_at(&self) -> Time {
        Time::from_micros(self.ends.saturating_mul(1_000_000))
    }
}

impl App {
    /// Makes a token for one organization, which `maker` must reach. `life` is cut to [`MAX_PORTAL_LIFE`].
    pub fn portal_token(
        &self,
        maker: &Caller,
        organization: &OrganizationId,
        rights: PortalRights,
        life: Duration,
    ) -> PortalToken {
        let keys = &self.0.settings.encryption_key;
        let said = Said {
            maker: maker.api_key(),
            key: keys.first().id(),
            ends: (self.0.clock.now() + life.min(MAX_PORTAL_LIFE)).as_seconds(),
            rights,
            organization: organization.clone(),
        };
        let body = said.to_bytes();
        let text = KeyText {
            kind: KeyKind::Portal,
            secret: keys.sign_token(&body),
            body,
        };
        tracing::info!(made_by = maker.actor(), %organization, rights = rights.as_str(), "portal_token_created");
        PortalToken {
            token: text.expose(),
            ends_at: said.ends_at(),
        }
    }

    pub(super) async fn verify_token(&self, token: &KeyText) -> Result<Verified, KeyRefusal> {
        let said = Said::parse(&token.body).ok_or(KeyRefusal::Unknown)?;
        let keys = &self.0.settings.encryption_key;
        // Before the database is asked for its maker: what is made up costs no query.
        if !keys.verify_token(said.key, &token.body, &token.secret) {
            return Err(KeyRefusal::Unknown);
        }
        self.check_life(None, Some(said.ends_at()))?;
        if let Some(maker) = said.maker {
            let mut conn = self.0.ledger.read().await.map_err(AppError::from)?;
            let maker = api_keys::get(&mut conn, maker).await;
            let maker = maker.map_err(AppError::from)?.ok_or(KeyRefusal::Revoked)?;
            self.check_life(maker.revoked_at, maker.expires_at)?;
        }
        let ends_at = Some(said.ends_at());
        Ok(Verified {
            caller: Caller::portal(said.organization, said.rights.scopes()),
            key: None,
            ends_at,
            renewed: super::Renewal::default(),
            minute: 0.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_is_read_again() {
        for (maker, rights) in [
            (None, PortalRights::Read),
            (Some(ApiKeyId(Uuid::max())), PortalRights::Care),
        ] {
            let said = Said {
                maker,
                key: KeyId([3; 8]),
                ends: 1_800_000_000,
                rights,
                organization: OrganizationId::parse("Ünion_1").expect("a name"),
            };
            let bytes = said.to_bytes();
            assert_eq!(Said::parse(&bytes), Some(said));
            for end in 0..=33 {
                assert_eq!(Said::parse(&bytes[..end]), None, "{end}");
            }
        }
        let longest = OrganizationId::parse(&"𝄞".repeat(OrganizationId::MAX)).expect("a name");
        let said = Said {
            maker: None,
            key: KeyId([3; 8]),
            ends: 0,
            rights: PortalRights::Read,
            organization: longest,
        };
        let text = KeyText {
            kind: KeyKind::Portal,
            body: said.to_bytes(),
            secret: [0; 32],
        };
        assert_eq!(KeyText::parse(&text.expose()), Some(text), "it has room");
    }
}
