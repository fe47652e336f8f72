//! The authorities that the system trusts.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;

/// Read once in a run: it takes some milliseconds, and reads files.
static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// What the system trusts; empty where it tells nothing.
pub(crate) fn of_the_system() -> Arc<RootCertStore> {
    Arc::clone(ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "an authority of the system cannot be read");
        }
        let mut roots = RootCertStore::empty();
        let (taken, refused) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(taken, refused, "authorities of the system");
        Arc::new(roots)
    }))
}
