use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use thiserror::Error;

use crate::pinned::{PinnedClient, PinnedServer};

/// Why TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file is missing, unreadable or empty.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The certificates do not fit.
    #[error("TLS: {0}")]
    Config(String),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes ring the process's crypto provider, for libraries that look for one. Does nothing if one is set.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn config_error(error: impl std::fmt::Display) -> TlsError {
    TlsError::Config(error.to_string())
}

/// Certificates or a key in PEM, and where they come from, for errors.
#[derive(Clone)]
pub struct Pem {
    /// A path, or another place that a person can find.
    pub of: String,
    /// The text.
    pub text: Vec<u8>,
}

impl Pem {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let of = path.display().to_string();
        match fs::read(path) {
            Ok(text) => Ok(Pem { of, text }),
            Err(error) => Err(TlsError::File {
                path: of,
                reason: error.to_string(),
            }),
        }
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |reason: String| TlsError::File {
        path: pem.of.clone(),
        reason,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem.text)
        .collect::<Result<_, _>>()
        .map_err(|e| fail(e.to_string()))?;
    if found.is_empty() {
        return Err(fail("there is no certificate in it".into()));
    }
    Ok(found)
}

fn key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&pem.text).map_err(|e| TlsError::File {
        path: pem.of.clone(),
        reason: e.to_string(),
    })
}

/// The certificates of a CA, as roots and as they are.
fn roots(ca: &Pem) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
    let trusted = certificates(ca)?;
    let mut store = RootCertStore::empty();
    for certificate in &trusted {
        store.add(certificate.clone()).map_err(config_error)?;
    }
    Ok((Arc::new(store), trusted))
}

fn server_verifier(ca: &Pem) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let (roots, trusted) = roots(ca)?;
    let usual = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(config_error)?;
    Ok(Arc::new(PinnedServer { usual, trusted }))
}

/// Settings of a client. Without a CA file or with `insecure`, server certificates are not checked, which is how
/// Patroni's agents talk to each other.
///
/// # Errors
/// A file is unusable.
pub fn client_tls(
    cafile: Option<&Path>,
    client_cert: Option<(&Path, &Path)>,
    insecure: bool,
) -> Result<Arc<ClientConfig>, TlsError> {
    let ca = cafile.filter(|_| !insecure).map(Pem::read).transpose()?;
    let client = match client_cert {
        Some((cert, private)) => Some((Pem::read(cert)?, Pem::read(private)?)),
        None => None,
    };
    client_tls_of(ca.as_ref(), client.as_ref())
}

/// The same from texts: a CA (`None`: server certificates are not checked), and a certificate with its key.
///
/// # Errors
/// A text is unusable.
pub fn client_tls_of(
    ca: Option<&Pem>,
    client_cert: Option<&(Pem, Pem)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config_error)?;
    let verifier = match ca {
        Some(ca) => server_verifier(ca)?,
        None => Arc::new(Unchecked(provider())),
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match client_cert {
        Some((cert, private)) => builder
            .with_client_auth_cert(certificates(cert)?, key(private)?)
            .map_err(config_error)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Settings of a server; with `client_ca`, clients may present a certificate, or must if `required`.
///
/// # Errors
/// A file is unusable.
pub fn server_tls(
    certfile: &Path,
    keyfile: &Path,
    client_ca: Option<&Path>,
    required: bool,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config_error)?;
    let builder = match client_ca {
        Some(path) => {
            let (roots, trusted) = roots(&Pem::read(path)?)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            let usual = verifier.build().map_err(config_error)?;
            builder.with_client_cert_verifier(Arc::new(PinnedClient { usual, trusted }))
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder
        .with_single_cert(certificates(&Pem::read(certfile)?)?, key(&Pem::read(keyfile)?)?)
        .map_err(config_error)?;
    Ok(Arc::new(config))
}

/// Settings of a server that asks clients for no certificate.
///
/// # Errors
/// Certificate or key is unusable.
pub fn server_tls_of(certificate: &Pem, private: &Pem) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config_error)?;
    let config = builder
        .with_no_client_auth()
        .with_single_cert(certificates(certificate)?, key(private)?)
        .map_err(config_error)?;
    Ok(Arc::new(config))
}

/// Accepts every certificate, but still checks that the peer has its key.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
