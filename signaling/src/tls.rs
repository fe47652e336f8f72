//! TLS for the server: which certificate it shows, and how that is kept.

mod acme;
mod auto;
mod files;
mod mode;

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

pub use mode::TlsMode;

use crate::{fingerprint::Fingerprint, state_dir::StateDir};

/// How a server does TLS.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Where its certificate comes from.
    pub mode: TlsMode,
    /// Where to listen for TLS; addresses with port 0 share one free port.
    pub listen: Vec<SocketAddr>,
    /// Names or addresses to put into a self-signed certificate, besides this machine's own.
    pub names: Vec<String>,
    /// A handshake must be over within this.
    pub handshake_within: Duration,
    /// How often certificate files are looked at.
    pub look_every: Duration,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            mode: TlsMode::Off,
            listen: Vec::new(),
            names: Vec::new(),
            handshake_within: Duration::from_secs(10),
            look_every: Duration::from_secs(3),
        }
    }
}

/// Why there can be no TLS. [`fmt::Display`] is a sentence that says what to do.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("Cannot read {}: {error}. Check the path and who may read it.", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A file cannot be written.
    #[error("Cannot write {}: {error}. Check --state-dir and who may write there.", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// No certificate in a file.
    #[error(
        "{} holds no usable certificate ({reason}): it has to be a PEM file, the server's own \
         certificate first, then those that vouch for it.",
        path.display()
    )]
    NoCertificate {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No key in a file.
    #[error(
        "{} holds no usable private key ({reason}): it has to be a PEM file with an unencrypted \
         ECDSA (P-256, P-384), Ed25519 or RSA key.",
        path.display()
    )]
    NoKey {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Two files that do not belong together.
    #[error(
        "The certificate in {} is not for the key in {}: give the two that belong together.",
        certificate.display(), key.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The kept key is damaged.
    #[error(
        "The server's kept key in {} is damaged ({reason}): put the file back from a copy, or \
         remove it to get a new key. Links sent so far name the old one and stop working.",
        path.display()
    )]
    KeptKeyDamaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A library refused; not foreseen.
    #[error("TLS cannot be set up: {0}.")]
    Setup(String),
}

/// What the server needs to serve TLS.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// Of the key, where the certificate is self-signed: nobody else vouches for it.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Keeps the certificate fresh; runs beside the server, and never ends by itself.
    pub(crate) upkeep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The protocol of the challenge of RFC 8737: such a connection ends with its handshake.
pub(crate) const ACME_ALPN: &[u8] = b"acme-tls/1";

impl Tls {
    /// Reads or makes what the options ask for, and keeps it in `state`: without, a self-signed
    /// key lasts as long as the server. `None` if no TLS is wanted. Reads files.
    ///
    /// # Errors
    /// What is missing or wrong, and what to do.
    pub(crate) fn prepare(
        options: &TlsOptions,
        state: Option<&StateDir>,
    ) -> Result<Option<Self>, TlsError> {
        let alpn = [b"http/1.1".to_vec()];
        Ok(Some(match &options.mode {
            TlsMode::Off => return Ok(None),
            TlsMode::Auto => {
                let wanted = auto::Wanted::of_this_machine(&options.names);
                let (certified, fingerprint) = auto::certified(state, &wanted)?;
                let shown = Shown::new(certified);
                let upkeep = auto::renew(Arc::clone(&shown), state.cloned(), options.names.clone());
                let acceptor = acceptor(shown, &alpn)?;
                Self { acceptor, fingerprint: Some(fingerprint), upkeep: Box::pin(upkeep) }
            }
            TlsMode::Files { certificate, key } => {
                let files = files::Files { certificate: certificate.clone(), key: key.clone() };
                let seen = files.stamp();
                let certified = files.load()?;
                let fingerprint = self_signed(&certified);
                let shown = Shown::new(certified);
                let upkeep = files.follow(seen, Arc::clone(&shown), options.look_every);
                let acceptor = acceptor(shown, &alpn)?;
                Self { acceptor, fingerprint, upkeep: Box::pin(upkeep) }
            }
            TlsMode::Acme { domain } => {
                let (resolver, upkeep) = acme::begin(domain, state)?;
                let alpn = [alpn[0].clone(), ACME_ALPN.to_vec()];
                let acceptor = acceptor(resolver, &alpn)?;
                Self { acceptor, fingerprint: None, upkeep: Box::pin(upkeep) }
            }
        }))
    }
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn acceptor(
    resolver: Arc<dyn ResolvesServerCert>,
    alpn: &[Vec<u8>],
) -> Result<TlsAcceptor, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificate that new handshakes get.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    fn new(certified: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(certified))))
    }

    fn replace(&self, certified: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The fingerprint, if the certificate vouches for itself alone.
fn self_signed(certified: &CertifiedKey) -> Option<Fingerprint> {
    let certificate = certified.end_entity_cert().ok()?;
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let alone = certified.cert.len() == 1 && parsed.issuer() == parsed.subject();
    alone.then(|| Fingerprint::of_certificate(certificate)).flatten()
}
