//! A certificate for one run.

use std::{fs, path::PathBuf, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::Failure;

/// A certificate for 127.0.0.1 that signs itself, and its key, in a folder that ends with it.
#[derive(Debug)]
pub struct Certificate(TempDir);

impl Certificate {
    /// Makes one.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub fn make() -> Result<Self, Failure> {
        let CertifiedKey { cert, key_pair } = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let made = Self(TempDir::new()?);
        fs::write(made.path(), cert.pem())?;
        fs::write(made.key(), key_pair.serialize_pem())?;
        Ok(made)
    }

    /// The file that whoever trusts it reads, in PEM.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
}

/// What answers with the certificate and the key in these files.
pub(crate) fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, Failure> {
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
