//! TLS certificates of the tests.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate authority of the test's own, and two certificates for `localhost`.
pub struct Certificates {
    authority_file: PathBuf,
    pub(super) valid: TlsAcceptor,
    pub(super) expired: TlsAcceptor,
}

impl Certificates {
    /// Makes them, and writes the authority's certificate to a file in this folder.
    ///
    /// # Errors
    /// If they cannot be made or written.
    pub fn write(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority_file = folder.join("authority.pem");
        std::fs::write(&authority_file, authority.pem())?;
        let acceptor = |first_year, last_year| {
            let mut params = CertificateParams::new(["localhost".to_owned()])?;
            params.not_before = date_time_ymd(first_year, 1, 1);
            params.not_after = date_time_ymd(last_year, 1, 1);
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &authority)?;
            let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
            let config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)?;
            Ok::<_, anyhow::Error>(TlsAcceptor::from(Arc::new(config)))
        };
        Ok(Self {
            authority_file,
            valid: acceptor(2020, 2120)?,
            expired: acceptor(2001, 2002)?,
        })
    }

    /// The authority's certificate, for `SSL_CERT_FILE`.
    pub fn authority_file(&self) -> &Path {
        &self.authority_file
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
