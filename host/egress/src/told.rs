//! The reason of a failed request as clients may read it. Names and addresses that are not theirs are left out.

use std::{error::Error, io};

use rustls::CertificateError;

use crate::{Error as Failed, Forbidden};

/// Stands for every address that is refused: the one that a name leads to is the operator's affair.
pub const NOT_PUBLIC: &str = "the receiver's address is not a public one";
/// Stands for a certificate's own names.
const OTHER_NAME: &str = "the certificate is not valid for this name";

/// Returns the causes of a failed request, without the addresses that its name led to, and the names that a
/// certificate has. The outermost error is left out: it says only that it failed, and names the URL.
pub fn told(error: &Failed) -> String {
    let causes: Vec<_> = std::iter::successors(error.source(), |&cause| cause.source()).collect();
    if causes.iter().any(|cause| cause.is::<Forbidden>()) {
        return NOT_PUBLIC.into();
    }
    let tls = causes.iter().find_map(|cause| in_tls(*cause));
    if let Some(rustls::Error::InvalidCertificate(why)) = tls
        && let CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } =
            why
    {
        return OTHER_NAME.into();
    }
    if causes.is_empty() {
        return error.to_string();
    }
    joined(causes.iter().map(ToString::to_string))
}

/// The TLS library's error. The connector's layers wrap it in `io::Error`s, which do not name it as their source.
fn in_tls<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let wrapped = |cause: &&'e (dyn Error + 'static)| -> Option<&'e (dyn Error + 'static)> {
        let io: &io::Error = cause.downcast_ref()?;
        Some(io.get_ref()?)
    };
    std::iter::successors(Some(cause), wrapped).find_map(|cause| cause.downcast_ref())
}

/// The causes in full, for operators.
pub fn in_full(error: &Failed) -> String {
    joined(std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string))
}

fn joined(causes: impl Iterator<Item = String>) -> String {
    causes.collect::<Vec<_>>().join(": ")
}
