//! A self-signed certificate: made here, kept, and made anew in time for the same key.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::{
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
    },
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use super::{Shown, TlsError, provider};
use crate::{fingerprint::Fingerprint, interfaces, invite, state_dir::StateDir};

const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// From the first to the last day. Apps recognise the key, which stays; so a certificate may be
/// short-lived, and Apple's systems refuse one that is much longer (beyond 825 days) without
/// letting their user decide. Nor shorter: a browser's user is asked again for each.
const LIFETIME: Duration = Duration::from_secs(397 * 24 * 60 * 60);
/// Made anew when it would end within this.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Clocks of others may be behind ours.
const BACKDATED: Duration = DAY;
/// How often a running server looks whether its certificate still serves.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// What the certificate is to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Names and addresses without which it is made anew.
    needed: Vec<String>,
    /// Put in too when it is made: IPv6 addresses, of which many change every day.
    welcome: Vec<String>,
}

impl Wanted {
    /// This machine's names and addresses, and `more`.
    pub(super) fn of_this_machine(more: &[String]) -> Self {
        let addresses = invite::rank(&interfaces::candidates());
        Self::of(&addresses, interfaces::host_name(), more)
    }

    fn of(addresses: &[IpAddr], host_name: Option<String>, more: &[String]) -> Self {
        let fixed = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut needed: Vec<String> = fixed.into_iter().chain(more.iter().cloned()).collect();
        if let Some(name) = host_name {
            // As multicast DNS (RFC 6762) tells it on the local network.
            needed.extend((!name.contains('.')).then(|| format!("{name}.local")));
            needed.push(name);
        }
        let (first, others) = addresses.split_at(addresses.len().min(1));
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = others.iter().partition(|ip| ip.is_ipv4());
        needed.extend(first.iter().chain(&v4).map(ToString::to_string));
        Self { needed, welcome: v6.iter().map(ToString::to_string).collect() }
    }
}

/// The key with its certificate: what is kept, as far as it still serves; else made and kept.
pub(super) fn certified(
    state: Option<&StateDir>,
    wanted: &Wanted,
) -> Result<(CertifiedKey, Fingerprint), TlsError> {
    certified_at(state, wanted, SystemTime::now())
}

fn certified_at(
    state: Option<&StateDir>,
    wanted: &Wanted,
    now: SystemTime,
) -> Result<(CertifiedKey, Fingerprint), TlsError> {
    let key = key(state)?;
    let spki = key.subject_public_key_info();
    let kept = state.and_then(|state| kept(state, &spki, wanted, now));
    let certificate = match kept {
        Some(certificate) => certificate,
        None => {
            let made = make(&key, wanted, now)?;
            if let Some(state) = state {
                state.write(CERTIFICATE_FILE, made.pem().as_bytes()).map_err(|error| {
                    TlsError::Unwritable { path: state.path().join(CERTIFICATE_FILE), error }
                })?;
                tracing::info!("made a self-signed certificate");
            }
            made.der().clone()
        }
    };
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certified = CertifiedKey::from_der(vec![certificate], der, &provider())
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    Ok((certified, Fingerprint::of_public_key(&spki)))
}

/// Looks from time to time whether the certificate still serves, for as long as it is polled.
pub(super) async fn renew(shown: Arc<Shown>, state: Option<StateDir>, names: Vec<String>) {
    // Without a place to keep it, a new one would have a new key: links would break.
    let Some(state) = state else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (state, names) = (state.clone(), names.clone());
        let renewed = tokio::task::spawn_blocking(move || {
            certified(Some(&state), &Wanted::of_this_machine(&names))
        });
        match renewed.await {
            Ok(Ok((certified, _))) => shown.replace(certified),
            Ok(Err(error)) => tracing::warn!(%error, "the certificate cannot be renewed"),
            Err(error) => tracing::warn!(%error, "the certificate cannot be renewed"),
        }
    }
}

fn key(state: Option<&StateDir>) -> Result<KeyPair, TlsError> {
    let make = || {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| TlsError::Setup(error.to_string()))
    };
    let Some(state) = state else { return make() };
    let path = state.path().join(KEY_FILE);
    let fresh = make()?;
    let pem = match state.read_or_create(KEY_FILE, || fresh.serialize_pem().into_bytes()) {
        Ok(pem) => pem,
        Err(error) => return Err(TlsError::Unwritable { path, error }),
    };
    let damaged = |reason: String| TlsError::KeptKeyDamaged { path: path.clone(), reason };
    let pem = std::str::from_utf8(&pem).map_err(|error| damaged(error.to_string()))?;
    KeyPair::from_pem(pem).map_err(|error| damaged(error.to_string()))
}

/// The certificate that is kept, if it still serves. One that cannot be read is made anew: it
/// holds nothing that is not known.
fn kept(
    state: &StateDir,
    spki: &[u8],
    wanted: &Wanted,
    now: SystemTime,
) -> Option<CertificateDer<'static>> {
    let certificate = CertificateDer::from_pem_file(state.path().join(CERTIFICATE_FILE)).ok()?;
    still_serves(&certificate, spki, wanted, now).then_some(certificate)
}

fn still_serves(
    certificate: &CertificateDer<'_>,
    spki: &[u8],
    wanted: &Wanted,
    now: SystemTime,
) -> bool {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return false };
    let Ok(anchor) = webpki::anchor_from_trusted_cert(certificate) else { return false };
    let names_all = wanted.needed.iter().all(|name| {
        ServerName::try_from(name.as_str())
            .is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok())
    });
    // It vouches for itself, so its time is all that can fail.
    let valid_at = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        parsed
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(&anchor),
                &[],
                UnixTime::since_unix_epoch(since),
                webpki::KeyUsage::server_auth(),
                None,
                None,
            )
            .is_ok()
    };
    names_all
        && parsed.subject_public_key_info().as_ref() == spki
        && valid_at(now)
        && valid_at(now + RENEW_BEFORE)
}

fn make(key: &KeyPair, wanted: &Wanted, now: SystemTime) -> Result<rcgen::Certificate, TlsError> {
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let names: Vec<String> = wanted.needed.iter().chain(&wanted.welcome).cloned().collect();
    let mut params = CertificateParams::new(names).map_err(|error| setup(&error))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Visavis");
    let begin = now - BACKDATED;
    params.not_before = date(begin).map_err(|error| setup(&error))?;
    params.not_after = date(begin + LIFETIME).map_err(|error| setup(&error))?;
    // Not an authority: whoever trusts it, trusts this one server.
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.self_signed(key).map_err(|error| setup(&error))
}

fn date(at: SystemTime) -> Result<OffsetDateTime, time::error::ComponentRange> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(addresses: &[&str]) -> Wanted {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Wanted::of(&addresses, Some("teapot".into()), &[])
    }

    fn now() -> SystemTime {
        // 2026-01-01.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
    }

    fn folder() -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(temp.path().join("state")).unwrap();
        (temp, state)
    }

    fn leaf(certified: &CertifiedKey) -> CertificateDer<'_> {
        certified.end_entity_cert().unwrap().clone()
    }

    #[test]
    fn a_restarted_server_shows_the_same_certificate() {
        let (_temp, state) = folder();
        let (first, fingerprint) = certified_at(Some(&state), &wanted(&[]), now()).unwrap();
        let (second, again) = certified_at(Some(&state), &wanted(&[]), now() + 30 * DAY).unwrap();
        assert_eq!((leaf(&first), fingerprint), (leaf(&second), again));
        assert_eq!(Fingerprint::of_certificate(&leaf(&first)), Some(fingerprint));
        assert_eq!(super::super::self_signed(&first), Some(fingerprint));
    }

    #[test]
    fn a_new_certificate_keeps_the_key() {
        let (_temp, state) = folder();
        let (first, fingerprint) =
            certified_at(Some(&state), &wanted(&["10.0.0.1"]), now()).unwrap();
        let (moved, after_move) =
            certified_at(Some(&state), &wanted(&["10.0.0.2"]), now()).unwrap();
        assert_ne!(leaf(&first), leaf(&moved));
        assert_eq!(fingerprint, after_move);
        let later = now() + 370 * DAY;
        let (renewed, after_a_year) =
            certified_at(Some(&state), &wanted(&["10.0.0.2"]), later).unwrap();
        assert_ne!(leaf(&moved), leaf(&renewed));
        assert_eq!(fingerprint, after_a_year);
    }

    #[test]
    fn an_ipv6_address_of_the_day_asks_for_no_new_certificate() {
        let (_temp, state) = folder();
        let at = |address| wanted(&["192.168.1.5", address]);
        let (first, _) = certified_at(Some(&state), &at("2001:db8::1"), now()).unwrap();
        let (second, _) = certified_at(Some(&state), &at("2001:db8::2"), now()).unwrap();
        assert_eq!(leaf(&first), leaf(&second));
    }

    #[test]
    fn without_a_folder_each_has_its_own() {
        let (_, first) = certified_at(None, &wanted(&[]), now()).unwrap();
        let (_, second) = certified_at(None, &wanted(&[]), now()).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_damaged_certificate_is_made_anew_and_a_damaged_key_is_told() {
        let (_temp, state) = folder();
        let (_, fingerprint) = certified_at(Some(&state), &wanted(&[]), now()).unwrap();
        state.write(CERTIFICATE_FILE, b"nonsense").unwrap();
        let (_, again) = certified_at(Some(&state), &wanted(&[]), now()).unwrap();
        assert_eq!(fingerprint, again);
        for nonsense in
            ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            state.write(KEY_FILE, nonsense.as_bytes()).unwrap();
            let error = certified_at(Some(&state), &wanted(&[]), now()).expect_err("damaged");
            assert!(matches!(error, TlsError::KeptKeyDamaged { .. }), "{error}");
            assert!(error.to_string().contains("key.pem"), "{error}");
        }
    }
}
