//! A certificate from Let's Encrypt (RFC 8555), got and renewed by the TLS-ALPN challenge
//! (RFC 8737): its servers open a TLS connection to port 443 of the domain.

use std::sync::Arc;

use futures_util::StreamExt;
use rustls::{ClientConfig, server::ResolvesServerCert};
use rustls_acme::{AcmeConfig, AcmeState, caches::DirCache};

use super::{TlsError, provider};
use crate::{roots, state_dir::StateDir};

const FOLDER: &str = "acme";

/// Another directory than Let's Encrypt's, for those who run their own.
const DIRECTORY_VARIABLE: &str = "VISAVIS_ACME_DIRECTORY";

/// What shows the certificate once there is one, and what gets it.
///
/// # Errors
/// When TLS to the authority cannot be set up.
pub(super) fn begin(
    domain: &str,
    state: Option<&StateDir>,
) -> Result<(Arc<dyn ResolvesServerCert>, impl Future<Output = ()> + Send + use<>), TlsError> {
    if state.is_none() {
        tracing::warn!(
            "without --state-dir every start asks for a new certificate, which Let's Encrypt limits"
        );
    }
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .with_root_certificates(roots::of_the_system())
        .with_no_client_auth();
    let config = AcmeConfig::new_with_client_config([domain], Arc::new(client))
        .cache_option(state.map(|state| DirCache::new(state.path().join(FOLDER))));
    let config = match std::env::var(DIRECTORY_VARIABLE) {
        Ok(directory) if !directory.is_empty() => config.directory(directory),
        _ => config.directory_lets_encrypt(true),
    };
    let acme = config.state();
    Ok((acme.resolver(), work(acme, domain.to_owned())))
}

async fn work(mut acme: AcmeState<std::io::Error>, domain: String) {
    tracing::info!(
        domain,
        "asking for a certificate; the domain's port 443 has to lead to this server's TLS port"
    );
    while let Some(event) = acme.next().await {
        match event {
            Ok(event) => tracing::info!(domain, ?event, "certificate"),
            Err(error) => tracing::warn!(
                domain,
                error = ?error,
                "no certificate yet; trying again: check that port 443 of the domain leads here"
            ),
        }
    }
}
