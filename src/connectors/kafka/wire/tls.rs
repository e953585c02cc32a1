//! TLS of a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::connectors::kafka::wire::error::WireError;

/// Where distributions keep the CAs that the machine trusts.
const SYSTEM_CAS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files of TLS, all PEM. A key with a password is not supported.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The trusted CAs; without them, those of the machine.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what it should be.
    pub fn load(&self) -> Result<Arc<ClientConfig>, WireError> {
        let unusable = |error: &dyn std::fmt::Display| WireError::Credentials(format!("TLS: {error}"));
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(self.roots()?);
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| WireError::Credentials(format!("cannot use the key `{}`: {error}", key.display())))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
            }
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, WireError> {
        let mut roots = RootCertStore::empty();
        let system = || SYSTEM_CAS.iter().map(Path::new).find(|path| path.exists());
        let Some(file) = self.ca.as_deref().or_else(system) else {
            return Err(WireError::Credentials("this machine has no list of trusted CAs".to_owned()));
        };
        let (added, _) = roots.add_parsable_certificates(certificates(file)?);
        if added == 0 {
            return Err(WireError::Credentials(format!("the file `{}` has no CA", file.display())));
        }
        Ok(roots)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, WireError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates: Vec<_> =
        read.map_err(|error| WireError::Credentials(format!("cannot use the certificates of `{}`: {error}", file.display())))?;
    if certificates.is_empty() {
        return Err(WireError::Credentials(format!("the file `{}` has no certificate", file.display())));
    }
    Ok(certificates)
}
