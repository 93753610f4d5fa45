use std::{fs, net::IpAddr, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use crate::state::{StateError, write_private};

/// Files of the API server's identity.
pub(crate) struct Identity {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Makes a CA and a certificate for the address, unless they are there. The CA's key is thrown away: it signs once.
pub(crate) fn identity(directory: PathBuf, address: IpAddr) -> Result<Identity, StateError> {
    let identity = Identity {
        ca: directory.join("ca.crt"),
        certificate: directory.join("server.crt"),
        key: directory.join("server.key"),
    };
    let made_for = directory.join("server.address");
    if fs::read_to_string(&made_for).is_ok_and(|made| made == address.to_string()) {
        return Ok(identity);
    }
    let (ca, certificate, key) = make(address)
        .map_err(|error| StateError::Io(directory.clone(), std::io::Error::other(error.to_string())))?;
    write_private(&identity.key, &key)?;
    write_private(&identity.certificate, &certificate)?;
    write_private(&identity.ca, &ca)?;
    write_private(&made_for, address.to_string())?;
    Ok(identity)
}

fn make(address: IpAddr) -> Result<(String, String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "howdah sandbox");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut params =
        CertificateParams::new(vec!["kubernetes.default.svc".to_owned(), "localhost".to_owned()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, "howdah sandbox API");
    params.subject_alt_names.push(SanType::IpAddress(address));
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &ca)?;
    Ok((ca.pem(), certificate.pem(), key.serialize_pem()))
}
