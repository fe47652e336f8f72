//! Where a server keeps what must outlive it: its keys and its certificate.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A folder only its owner may look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// What the system says when it cannot be made.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self { path })
    }

    /// The place that is named by `VISAVIS_STATE_DIR`, or by the service manager (systemd's
    /// `STATE_DIRECTORY`, systemd.exec(5)), or is the platform's own for this user; `None` for a user without a home.
    pub fn usual() -> Option<PathBuf> {
        let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
        if let Some(path) = named("VISAVIS_STATE_DIR") {
            return Some(path.into());
        }
        let from_systemd = named("STATE_DIRECTORY")
            .and_then(|paths| std::env::split_paths(&paths).find(|folder| folder.is_absolute()));
        from_systemd.or_else(|| {
            let places = directories::ProjectDirs::from("", "", "visavis")?;
            Some(places.data_local_dir().join("server"))
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file `name` holds; where it is missing it is made from what `make` returns. Of
    /// two programs that do so at once, both get what the first one made.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_or_create(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        match fs::read(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = make();
                match self.beside(&bytes)?.persist_noclobber(self.path.join(name)) {
                    Ok(_) => Ok(bytes),
                    Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => {
                        fs::read(self.path.join(name))
                    }
                    Err(error) => Err(error.error),
                }
            }
            result => result,
        }
    }

    /// Replaces the file `name`, wholly or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.beside(bytes)?;
        file.persist(self.path.join(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// A complete file that has yet to get its name; only its owner may read it.
    fn beside(&self, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        io::Write::write_all(&mut file, bytes)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_once_is_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(temp.path().join("a/b")).unwrap();
        assert_eq!(state.read_or_create("key", || vec![1, 2]).unwrap(), [1, 2]);
        assert_eq!(state.read_or_create("key", || vec![3]).unwrap(), [1, 2]);
        state.write("key", &[4]).unwrap();
        assert_eq!(
            StateDir::open(state.path()).unwrap().read_or_create("key", Vec::new).unwrap(),
            [4]
        );
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_inside() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(temp.path().join("s")).unwrap();
        state.write("key", b"secret").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode(state.path().to_owned()), 0);
        assert_eq!(mode(state.path().join("key")), 0);
    }
}
