//! Whether a server's certificate is the right one.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{fingerprint::Fingerprint, roots, tls::provider};

/// Which servers a client takes for the right one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    /// From the link: this key and no other, whoever vouches for it and whatever name it has.
    pub pinned: Option<Fingerprint>,
    /// From the user: this key too, besides those that the system's authorities vouch for.
    pub remembered: Option<Fingerprint>,
}

/// Why a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not the key that the link names.
    NotPinned,
    /// Nobody known vouches for it, and the user trusted another key.
    NotRemembered(Fingerprint),
    /// Nobody known vouches for it.
    Unknown(Fingerprint),
    /// Somebody vouches for it, but not now or not for this server; or it is none.
    Bad(String),
}

/// Where a [`Refusal`] is found after the handshake.
pub(super) type Refused = Arc<Mutex<Option<Refusal>>>;

/// A client's end of TLS for one connection. Reads the system's authorities.
pub(super) fn config(trust: Trust) -> Result<(ClientConfig, Refused), Error> {
    let provider = provider();
    let roots = roots::of_the_system();
    // Without any authority there is no verifier; then nobody vouches for anybody.
    let authorities = (!roots.is_empty())
        .then(|| WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build())
        .transpose()
        .map_err(|error| Error::General(error.to_string()))?;
    let refused = Refused::default();
    let verifier = Verifier {
        trust,
        authorities,
        refused: Arc::clone(&refused),
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, refused))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    refused: Refused,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        authorities: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Refusal> {
        let Some(fingerprint) = Fingerprint::of_certificate(certificate) else {
            return Err(Refusal::Bad("it cannot be read".to_owned()));
        };
        if let Some(pinned) = self.trust.pinned {
            return if fingerprint == pinned { Ok(()) } else { Err(Refusal::NotPinned) };
        }
        let error = match authorities() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if self.trust.remembered == Some(fingerprint) {
            return Ok(());
        }
        match reason(&error) {
            Some(reason) => Err(Refusal::Bad(reason)),
            None if self.trust.remembered.is_some() => Err(Refusal::NotRemembered(fingerprint)),
            None => Err(Refusal::Unknown(fingerprint)),
        }
    }
}

/// What is wrong with a certificate that somebody vouches for, or that is past its time; `None`
/// where nobody known does, which is for the user to decide.
fn reason(error: &Error) -> Option<String> {
    let Error::InvalidCertificate(error) = error else { return Some(error.to_string()) };
    Some(match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: check this machine's clock".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::Revoked => "it has been revoked".to_owned(),
        CertificateError::BadEncoding => "it cannot be read".to_owned(),
        _ => return None,
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authorities = || match &self.authorities {
            Some(authorities) => authorities
                .verify_server_cert(certificate, intermediates, name, ocsp, now)
                .map(|_| ()),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        self.judge(certificate, authorities).map_err(|refusal| {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            Error::from(CertificateError::ApplicationVerificationFailure)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    // The proof that the server has the key is demanded whatever is trusted.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> (CertificateDer<'static>, Fingerprint) {
        let made = rcgen::generate_simple_self_signed(["tea.example".to_owned()]).unwrap();
        let der = made.cert.der().clone();
        let fingerprint = Fingerprint::of_certificate(&der).unwrap();
        (der, fingerprint)
    }

    fn judge(
        trust: Trust,
        der: &CertificateDer<'_>,
        authorities: Result<(), Error>,
    ) -> Result<(), Refusal> {
        let algorithms = provider().signature_verification_algorithms;
        let verifier =
            Verifier { trust, authorities: None, refused: Refused::default(), algorithms };
        verifier.judge(der, || authorities)
    }

    const STRANGE: Result<(), Error> =
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    const EXPIRED: Result<(), Error> = Err(Error::InvalidCertificate(CertificateError::Expired));

    #[test]
    fn a_pinned_key_is_the_only_one_whoever_vouches_for_another() {
        let (der, fingerprint) = certificate();
        let (_, another) = certificate();
        let pinned = |pinned| Trust { pinned: Some(pinned), remembered: Some(fingerprint) };
        assert_eq!(judge(pinned(fingerprint), &der, STRANGE), Ok(()));
        assert_eq!(judge(pinned(fingerprint), &der, EXPIRED), Ok(()));
        assert_eq!(judge(pinned(another), &der, Ok(())), Err(Refusal::NotPinned));
    }

    #[test]
    fn what_an_authority_vouches_for_needs_nobody_else() {
        let (der, _) = certificate();
        let (_, another) = certificate();
        assert_eq!(judge(Trust::default(), &der, Ok(())), Ok(()));
        let moved = Trust { remembered: Some(another), pinned: None };
        assert_eq!(judge(moved, &der, Ok(())), Ok(()));
    }

    #[test]
    fn an_unknown_key_is_told_and_a_changed_one_too() {
        let (der, fingerprint) = certificate();
        let (_, another) = certificate();
        let trust = |remembered| Trust { pinned: None, remembered };
        assert_eq!(judge(trust(None), &der, STRANGE), Err(Refusal::Unknown(fingerprint)));
        assert_eq!(judge(trust(Some(fingerprint)), &der, STRANGE), Ok(()));
        let changed = judge(trust(Some(another)), &der, STRANGE);
        assert_eq!(changed, Err(Refusal::NotRemembered(fingerprint)));
    }

    #[test]
    fn what_is_past_its_time_is_not_asked_about() {
        let (der, _) = certificate();
        let refused = judge(Trust::default(), &der, EXPIRED);
        assert_eq!(refused, Err(Refusal::Bad("it has expired".into())));
        let nonsense = CertificateDer::from(vec![1, 2, 3]);
        assert!(matches!(judge(Trust::default(), &nonsense, Ok(())), Err(Refusal::Bad(_))));
    }
}
