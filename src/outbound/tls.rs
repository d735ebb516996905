//! TLS as every connection out uses it.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::OutboundError;

/// The roots of the web and those in `extra_ca_file`; no client certificate; no sessions kept.
///
/// Thousands of hosts share this one configuration, and a connection lasts for days. The tickets
/// of every host (up to eight each, with its certificates) would cost tens of megabytes to save a
/// millisecond of a handshake now and then.
pub(crate) fn client_config(
    extra_ca_file: Option<&Path>,
) -> Result<Arc<ClientConfig>, OutboundError> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(path) = extra_ca_file {
        add_roots(&mut roots, path)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(OutboundError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), OutboundError> {
    let unreadable = |e: &dyn ToString| OutboundError::CaFile(path.to_owned(), e.to_string());
    let unusable = |e: &dyn ToString| OutboundError::CaCertificate(path.to_owned(), e.to_string());
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))? {
        let certificate = certificate.map_err(|e| unreadable(&e))?;
        roots.add(certificate).map_err(|e| unusable(&e))?;
    }
    if roots.len() == before {
        return Err(unusable(&"none in the file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn further_roots_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(matches!(
            client_config(Some(&path)),
            Err(OutboundError::CaFile(..))
        ));
        fs::write(&path, "nothing\n").unwrap();
        assert!(matches!(
            client_config(Some(&path)),
            Err(OutboundError::CaCertificate(..))
        ));
        let ca = rcgen::generate_simple_self_signed(vec!["test".to_owned()]).unwrap();
        fs::write(&path, ca.cert.pem()).unwrap();
        assert!(client_config(Some(&path)).is_ok());
        assert!(client_config(None).is_ok());
    }
}
