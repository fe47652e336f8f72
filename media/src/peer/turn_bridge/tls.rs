//! Whom to trust over TLS: what the system trusts, and one key more.

use std::io;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::KeyPin;

/// Reads the system's certificates anew: they are needed seldom, and may change.
pub(super) fn config(pin: Option<KeyPin>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    trusting(roots, pin)
}

fn trusting(roots: RootCertStore, pin: Option<KeyPin>) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let Some(pin) = pin else {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    };
    // It does not build where the system trusts nobody.
    let others =
        WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build();
    let verifier = Pinned { pin, others: others.ok(), provider };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Accepts one key, whoever vouches for it, and others as the system does.
#[derive(Debug)]
struct Pinned {
    pin: KeyPin,
    others: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        if digest(&SHA256, &key).as_ref() == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.others {
            Some(others) => others.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A server with a certificate of its own making for `name`, the pin of its key, and who trusts it.
    fn server(name: &str) -> (TlsAcceptor, KeyPin, RootCertStore) {
        let made = rcgen::generate_simple_self_signed(vec![name.into()]).expect("made");
        let certificate = made.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let parsed = ParsedCertificate::try_from(&certificate).expect("a certificate");
        let spki = parsed.subject_public_key_info();
        let pin = digest(&SHA256, &spki).as_ref().try_into().expect("32 bytes");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .expect("a certificate and its key");
        (Arc::new(config).into(), pin, roots)
    }

    async fn connects(acceptor: &TlsAcceptor, pin: Option<KeyPin>) -> bool {
        connects_as(acceptor, config(pin).expect("a configuration")).await
    }

    async fn connects_as(acceptor: &TlsAcceptor, config: ClientConfig) -> bool {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("192.0.2.1").expect("an address");
        let (client, _server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        client.is_ok()
    }

    #[tokio::test]
    async fn the_pinned_key_is_accepted_under_any_name_and_no_other_key_is() {
        let (acceptor, pin, _) = server("other.example");
        assert!(connects(&acceptor, Some(pin)).await);
        assert!(!connects(&acceptor, Some([7; 32])).await);
        let (_, other, _) = server("other.example");
        assert!(!connects(&acceptor, Some(other)).await);
        // Without a pin nobody vouches for it.
        assert!(!connects(&acceptor, None).await);
    }

    #[tokio::test]
    async fn beside_the_pinned_key_the_system_is_believed() {
        let (acceptor, _, roots) = server("192.0.2.1");
        let config = |roots, pin| trusting(roots, Some(pin)).expect("a configuration");
        assert!(connects_as(&acceptor, config(roots.clone(), [7; 32])).await);
        assert!(!connects_as(&acceptor, config(RootCertStore::empty(), [7; 32])).await);
        // It vouches for names, too.
        let (acceptor, pin, roots) = server("other.example");
        assert!(!connects_as(&acceptor, config(roots.clone(), [7; 32])).await);
        assert!(connects_as(&acceptor, config(roots, pin)).await);
    }
}
