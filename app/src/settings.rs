//! Settings, kept as JSON in the platform's own place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use visavis_media::sound::processing::Processing;
use visavis_signaling::Fingerprint;

use crate::text::Language;

/// How many rooms are remembered.
pub const ROOMS_KEPT: usize = 8;

/// The longest name a person may give, in characters.
pub const NAME_LIMIT: usize = 40;

/// The variable that names another directory for the settings.
pub const DIRECTORY_VARIABLE: &str = "VISAVIS_CONFIG_DIR";

/// No settings file of ours comes near this; a bigger one is not read into memory.
const FILE_LIMIT: u64 = 1 << 20;

const FILE_NAME: &str = "settings.json";

/// What is remembered between runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The name the other person sees; may be empty.
    pub name: String,
    /// The window's language; `None`: the system's.
    pub language: Option<Language>,
    /// The camera's id; `None`: the system's default.
    pub camera: Option<String>,
    /// The microphone's id; `None`: the system's default.
    pub microphone: Option<String>,
    /// The speaker's id; `None`: the system's default.
    pub speaker: Option<String>,
    /// Whether the camera is wanted on.
    pub camera_on: bool,
    /// Whether the microphone is wanted on.
    pub microphone_on: bool,
    /// What is done to the microphone's sound.
    pub processing: Processing,
    /// The rooms visited last, newest first, at most [`ROOMS_KEPT`].
    pub rooms: Vec<RecentRoom>,
    /// The server last used with a bare room name.
    pub server: Option<String>,
    /// Servers that the user trusts though nobody vouches for them, and their keys.
    pub trusted: BTreeMap<String, Fingerprint>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            language: None,
            camera: None,
            microphone: None,
            speaker: None,
            camera_on: true,
            microphone_on: true,
            processing: Processing::default(),
            rooms: Vec::new(),
            server: None,
            trusted: BTreeMap::new(),
        }
    }
}

/// A room one can go back to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecentRoom {
    /// A link, or a room's name.
    pub target: String,
    /// The server, where `target` is a room's name on another machine.
    pub server: Option<String>,
    /// Whether the room was hosted here.
    pub hosted: bool,
    /// When it was entered last, seconds since the Unix epoch.
    pub when: u64,
}

impl RecentRoom {
    /// The room's name: `target` itself, or what follows `/room/` in a link.
    pub fn name(&self) -> &str {
        let rest = self.target.rsplit_once("/room/").map_or(self.target.as_str(), |(_, room)| room);
        rest.split(['?', '#', '/']).next().unwrap_or(rest)
    }

    fn same_place(&self, other: &Self) -> bool {
        self.target == other.target && self.server == other.server && self.hosted == other.hosted
    }
}

impl Settings {
    /// Puts `room` first among the rooms visited last; an older visit to it is forgotten.
    pub fn remember_room(&mut self, room: RecentRoom) {
        self.rooms.retain(|known| !known.same_place(&room));
        self.rooms.insert(0, room);
        self.rooms.truncate(ROOMS_KEPT);
    }

    /// Brings what a hand-edited file may hold within the limits.
    fn tidy(mut self) -> Self {
        self.name = tidy_name(&self.name);
        self.rooms.retain(|room| !room.target.trim().is_empty());
        self.rooms.sort_by_key(|room| std::cmp::Reverse(room.when));
        let mut seen: Vec<RecentRoom> = Vec::new();
        for room in std::mem::take(&mut self.rooms) {
            if !seen.iter().any(|known| known.same_place(&room)) {
                seen.push(room);
            }
        }
        seen.truncate(ROOMS_KEPT);
        self.rooms = seen;
        self
    }
}

/// A person's name without control characters, outer blanks, or more than [`NAME_LIMIT`]
/// characters.
pub fn tidy_name(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).collect();
    let short: String = clean.trim().chars().take(NAME_LIMIT).collect();
    short.trim_end().to_owned()
}

/// The file the settings live in.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingsFile {
    directory: PathBuf,
}

/// What reading gave: settings in any case, and what to tell the user.
#[derive(Debug)]
pub struct Loaded {
    /// The settings, or the defaults.
    pub settings: Settings,
    /// Why these are the defaults although there was a file.
    pub warning: Option<LoadWarning>,
}

/// The settings file could not be used; the defaults are in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadWarning {
    /// Not what we wrote. It was moved aside.
    #[error(
        "the settings in {path} are damaged ({reason}): starting afresh, the old file is kept as {kept}"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Where it is now.
        kept: PathBuf,
    },
    /// It exists but cannot be read.
    #[error(
        "the settings in {path} cannot be read ({reason}): starting afresh, check the file's permissions"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// The settings were not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot save the settings in {path}: {source}; check free space and permissions")]
pub struct SaveError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl SettingsFile {
    /// In the directory named by [`DIRECTORY_VARIABLE`], else in the platform's own place;
    /// `None` if this user has no home directory.
    pub fn of_this_user() -> Option<Self> {
        Self::chosen(std::env::var_os(DIRECTORY_VARIABLE))
    }

    fn chosen(named: Option<OsString>) -> Option<Self> {
        if let Some(directory) = named.filter(|directory| !directory.is_empty()) {
            return Some(Self::within(directory));
        }
        let places = directories::ProjectDirs::from("", "", "visavis")?;
        Some(Self::within(places.config_dir()))
    }

    /// In `directory`, which need not exist yet.
    pub fn within(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where the file is, or will be.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// Reads the settings. No file yet: the defaults. A damaged one is moved aside (`.bad`), so
    /// that nothing a person wrote by hand is lost.
    pub fn load(&self) -> Loaded {
        let path = self.path();
        let bytes = match read_limited(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Loaded { settings: Settings::default(), warning: None };
            }
            Err(error) => {
                let warning = LoadWarning::Unreadable { path, reason: error.to_string() };
                return Loaded { settings: Settings::default(), warning: Some(warning) };
            }
        };
        match serde_json::from_slice::<Settings>(&bytes) {
            Ok(settings) => Loaded { settings: settings.tidy(), warning: None },
            Err(error) => {
                let kept = path.with_extension("json.bad");
                let reason = error.to_string();
                let warning = match fs::rename(&path, &kept) {
                    Ok(()) => LoadWarning::Damaged { path, reason, kept },
                    Err(_) => LoadWarning::Unreadable { path, reason },
                };
                Loaded { settings: Settings::default(), warning: Some(warning) }
            }
        }
    }

    /// Writes the settings beside the file, then puts them in its place, so that a crash
    /// midway leaves the old ones.
    pub fn save(&self, settings: &Settings) -> Result<(), SaveError> {
        let path = self.path();
        self.replace(&path, settings).map_err(|source| SaveError { path, source })
    }

    fn replace(&self, path: &Path, settings: &Settings) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(settings)?;
        fs::create_dir_all(&self.directory)?;
        // Two windows may save at once: each writes a file of its own.
        let beside = self.directory.join(format!("{FILE_NAME}.{}.tmp", std::process::id()));
        let written = fs::File::create(&beside).and_then(|mut file| {
            file.write_all(&json)?;
            file.sync_all()
        });
        let placed = written.and_then(|()| fs::rename(&beside, path));
        if placed.is_err() {
            // The first error is the one worth telling.
            let _ = fs::remove_file(&beside);
        }
        placed
    }
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)? as u64;
    if read > FILE_LIMIT {
        return Err(io::Error::other(format!("it is larger than {FILE_LIMIT} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(target: &str, when: u64) -> RecentRoom {
        RecentRoom { target: target.into(), when, ..RecentRoom::default() }
    }

    #[test]
    fn what_was_saved_is_loaded_again() {
        let home = tempfile::tempdir().unwrap();
        let file = SettingsFile::within(home.path().join("deep/er"));
        let mut settings = Settings {
            name: "韩梅梅".into(),
            language: Some(Language::Chinese),
            camera: Some("usb:1".into()),
            camera_on: false,
            server: Some("http://10.0.0.2:8080".into()),
            ..Settings::default()
        };
        settings.remember_room(room("http://10.0.0.2:8080/room/tea", 5));
        let fingerprint = Fingerprint::of_public_key(b"a key");
        settings.trusted.insert("https://10.0.0.2:8443".into(), fingerprint);
        file.save(&settings).unwrap();
        let loaded = file.load();
        assert_eq!(loaded.settings, settings);
        assert!(loaded.warning.is_none());
        let left: Vec<_> = fs::read_dir(home.path().join("deep/er")).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file stays: {left:?}");
    }

    #[test]
    fn another_directory_can_be_named() {
        let named = SettingsFile::chosen(Some("/somewhere/else".into()));
        assert_eq!(named, Some(SettingsFile::within("/somewhere/else")));
        let own = SettingsFile::chosen(None);
        assert_eq!(SettingsFile::chosen(Some(OsString::new())), own);
        assert_ne!(named, own);
    }

    #[test]
    fn no_file_means_defaults_without_a_word() {
        let home = tempfile::tempdir().unwrap();
        let loaded = SettingsFile::within(home.path()).load();
        assert_eq!(loaded.settings, Settings::default());
        assert!(loaded.settings.camera_on && loaded.settings.microphone_on);
        assert!(loaded.warning.is_none());
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_told() {
        let home = tempfile::tempdir().unwrap();
        let file = SettingsFile::within(home.path());
        fs::write(file.path(), b"{\"name\": 7").unwrap();
        let loaded = file.load();
        assert_eq!(loaded.settings, Settings::default());
        let told = loaded.warning.map(|warning| warning.to_string()).unwrap_or_default();
        assert!(told.contains("settings.json.bad"), "{told}");
        assert!(!file.path().exists());
        assert_eq!(fs::read(home.path().join("settings.json.bad")).unwrap(), b"{\"name\": 7");
        file.save(&Settings::default()).unwrap();
        assert!(file.load().warning.is_none());
    }

    #[test]
    fn a_file_of_another_version_keeps_what_is_known() {
        let home = tempfile::tempdir().unwrap();
        let file = SettingsFile::within(home.path());
        fs::write(file.path(), br#"{"name": "Lei", "colour": "blue"}"#).unwrap();
        let loaded = file.load();
        assert_eq!(loaded.settings.name, "Lei");
        assert!(loaded.settings.microphone_on);
        assert!(loaded.warning.is_none());
    }

    #[test]
    fn a_directory_in_the_files_place_is_an_error_that_names_it() {
        let home = tempfile::tempdir().unwrap();
        let file = SettingsFile::within(home.path());
        fs::create_dir(file.path()).unwrap();
        assert!(matches!(file.load().warning, Some(LoadWarning::Unreadable { .. })));
        let told = file.save(&Settings::default()).unwrap_err().to_string();
        assert!(told.contains("settings.json"), "{told}");
    }

    #[test]
    fn an_enormous_file_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let file = SettingsFile::within(home.path());
        fs::File::create(file.path()).unwrap().set_len(FILE_LIMIT * 4).unwrap();
        assert!(matches!(file.load().warning, Some(LoadWarning::Unreadable { .. })));
    }

    #[test]
    fn the_last_rooms_are_few_distinct_and_newest_first() {
        let mut settings = Settings::default();
        for when in 0..20 {
            settings.remember_room(room(&format!("room-{}", when % 10), when));
        }
        let names: Vec<_> = settings.rooms.iter().map(|room| room.target.as_str()).collect();
        assert_eq!(
            names,
            ["room-9", "room-8", "room-7", "room-6", "room-5", "room-4", "room-3", "room-2"]
        );
    }

    #[test]
    fn a_hand_edited_file_is_brought_within_limits() {
        let mut wild = Settings { name: "  \u{7}Ann\n ".repeat(40), ..Settings::default() };
        wild.rooms = (0..30).map(|n| room(if n % 2 == 0 { "a" } else { " " }, n)).collect();
        let tame = wild.tidy();
        assert!(tame.name.chars().count() <= NAME_LIMIT);
        assert!(!tame.name.contains(char::is_control));
        assert_eq!(tame.rooms, [room("a", 28)]);
    }

    #[test]
    fn a_link_knows_its_rooms_name() {
        assert_eq!(room("http://h:1/room/maple-river", 0).name(), "maple-river");
        assert_eq!(room("https://h/room/茶?join", 0).name(), "茶");
        assert_eq!(room("tea", 0).name(), "tea");
    }
}
