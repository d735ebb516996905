//! Certificates for a private network: one authority, one certificate for `localhost`.

use std::{io, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};

/// What TLS servers of the simulated network share.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority's certificate, for clients to trust.
    pub ca_pem: String,
    pub(crate) config: Arc<ServerConfig>,
}

impl Tls {
    /// A new authority and a certificate of it for `localhost`.
    pub fn new() -> io::Result<Tls> {
        Tls::generate().map_err(io::Error::other)
    }

    fn generate() -> Result<Tls, Box<dyn std::error::Error + Send + Sync>> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name
            .push(DnType::CommonName, "zlay-sim authority");
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
        let leaf = leaf.signed_by(&key, &issuer)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = PrivateKeyDer::try_from(key.serialize_der())?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)?;
        Ok(Tls {
            ca_pem,
            config: Arc::new(config),
        })
    }
}
