//! TLS certificates of the tests.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate authority of the test's own, certificates for `localhost` and one for another name.
pub struct Certificates {
    authority_file: PathBuf,
    server_file: PathBuf,
    server_key_file: PathBuf,
    pub(super) valid: TlsAcceptor,
    pub(super) expired: TlsAcceptor,
    /// Of a name that the sender does not ask for, and must not tell.
    pub(super) inside: TlsAcceptor,
}

impl Certificates {
    /// Makes them. Writes the authority's certificate to a file in this folder, and one for servers with its key.
    ///
    /// # Errors
    /// If they cannot be made or written.
    pub fn write(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority_file = folder.join("authority.pem");
        std::fs::write(&authority_file, authority.pem())?;
        let signed = |name: &str, first_year, last_year| {
            let mut params = CertificateParams::new([name.to_owned()])?;
            params.not_before = date_time_ymd(first_year, 1, 1);
            params.not_after = date_time_ymd(last_year, 1, 1);
            let key = KeyPair::generate()?;
            Ok::<_, anyhow::Error>((params.signed_by(&key, &authority)?, key))
        };
        let (server, server_key) = signed("localhost", 2020, 2120)?;
        let server_file = folder.join("server.pem");
        std::fs::write(&server_file, server.pem())?;
        let server_key_file = folder.join("server.key");
        std::fs::write(&server_key_file, server_key.serialize_pem())?;
        // PostgreSQL refuses a key that others may read.
        std::fs::set_permissions(&server_key_file, Permissions::from_mode(0o600))?;
        let acceptor = |name: &str, first_year, last_year| {
            let (certificate, key) = signed(name, first_year, last_year)?;
            let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
            let config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)?;
            Ok::<_, anyhow::Error>(TlsAcceptor::from(Arc::new(config)))
        };
        Ok(Self {
            authority_file,
            server_file,
            server_key_file,
            valid: acceptor("localhost", 2020, 2120)?,
            expired: acceptor("localhost", 2001, 2002)?,
            inside: acceptor("vault.internal", 2020, 2120)?,
        })
    }

    /// The authority's certificate, for `SSL_CERT_FILE`.
    pub fn authority_file(&self) -> &Path {
        &self.authority_file
    }

    /// A certificate for a server on `localhost`.
    pub fn server_file(&self) -> &Path {
        &self.server_file
    }

    /// The key of [`server_file`](Self::server_file).
    pub fn server_key_file(&self) -> &Path {
        &self.server_key_file
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Certificates")
            .field("authority_file", &self.authority_file)
            .finish_non_exhaustive()
    }
}
