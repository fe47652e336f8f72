//! A certificate from two files, read again when they change.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};

use super::{Shown, TlsError, provider};

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// By this a changed file is noticed: when it was written, and how long it is.
pub(super) type Stamp = [Option<(SystemTime, u64)>; 2];

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// Which file is wrong, how, and what to do.
    pub(super) fn load(&self) -> Result<CertifiedKey, TlsError> {
        let no_certificate =
            |reason: String| TlsError::NoCertificate { path: self.certificate.clone(), reason };
        let no_key = |reason: String| TlsError::NoKey { path: self.key.clone(), reason };
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| TlsError::Unreadable { path: path.clone(), error })
        };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&read(&self.certificate)?)
                .collect::<Result<_, _>>()
                .map_err(|error| no_certificate(say(&error)))?;
        let first =
            chain.first().ok_or_else(|| no_certificate("there is no certificate in it".into()))?;
        webpki::EndEntityCert::try_from(first)
            .map_err(|error| no_certificate(error.to_string()))?;
        let key = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
            let encrypted = String::from_utf8_lossy(&key).contains("ENCRYPTED");
            no_key(if encrypted { "it is encrypted".into() } else { say(&error) })
        })?;
        let signing = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| no_key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                let (certificate, key) = (self.certificate.clone(), self.key.clone());
                Err(TlsError::Mismatch { certificate, key })
            }
            _ => Ok(certified),
        }
    }

    /// Looks at both files now.
    pub(super) fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    /// Shows what the files hold whenever they have changed, for as long as it is polled. What
    /// cannot be used leaves the old certificate, with a warning.
    pub(super) async fn follow(self, seen: Stamp, shown: Arc<Shown>, every: Duration) {
        let mut tried = seen;
        let mut before = seen;
        loop {
            tokio::time::sleep(every).await;
            let files = self.clone();
            // The same twice: whoever writes the files is through with both.
            let look = move || {
                let now = files.stamp();
                (now, (now != tried && now == before).then(|| files.load()))
            };
            let Ok((now, loaded)) = tokio::task::spawn_blocking(look).await else { continue };
            before = now;
            match loaded {
                None => continue,
                Some(Ok(certified)) => {
                    shown.replace(certified);
                    tracing::info!("the certificate's files have changed and are in use");
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "the certificate's files have changed; the old one stays");
                }
            }
            tried = now;
        }
    }
}

fn say(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is none in it".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder {
        temp: tempfile::TempDir,
        files: Files,
    }

    impl Folder {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let path = |name: &str| temp.path().join(name);
            let files = Files { certificate: path("c.pem"), key: path("k.pem") };
            let folder = Self { files, temp };
            folder.fill();
            folder
        }

        /// A new pair.
        fn fill(&self) {
            let made = rcgen::generate_simple_self_signed(["tea.example".to_owned()]).unwrap();
            std::fs::write(&self.files.certificate, made.cert.pem()).unwrap();
            std::fs::write(&self.files.key, made.signing_key.serialize_pem()).unwrap();
        }

        fn error(&self) -> String {
            self.files.load().expect_err("wrong files").to_string()
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_files_name() {
        let folder = Folder::new();
        assert!(folder.files.load().is_ok());
        let key = std::fs::read(&folder.files.key).unwrap();
        let certificate = std::fs::read(&folder.files.certificate).unwrap();
        folder.fill();
        std::fs::write(&folder.files.key, &key).unwrap();
        assert!(folder.error().contains("belong together"), "{}", folder.error());
        std::fs::write(&folder.files.certificate, &key).unwrap();
        assert!(folder.error().contains("c.pem holds no usable certificate"), "{}", folder.error());
        std::fs::write(&folder.files.certificate, &certificate).unwrap();
        for (content, said) in [
            (&certificate[..], "none in it"),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "k.pem holds no usable private key"),
            (b"", "none in it"),
        ] {
            std::fs::write(&folder.files.key, content).unwrap();
            let error = folder.error();
            assert!(error.contains(said) && error.contains("k.pem"), "{error}");
        }
        std::fs::remove_file(&folder.files.key).unwrap();
        assert!(folder.error().contains("Cannot read"), "{}", folder.error());
        drop(folder.temp);
    }
}
