//! The one loop that performs what the call decides: devices, server, connections. It runs on
//! the runtime's own thread; the window and the command line only send commands and look at
//! snapshots.

mod commands;
mod devices;
mod events;
mod notices;
mod perform;
mod shown;
mod statistics;
mod surroundings;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use visavis_media::devices::DeviceList;
use visavis_media::frame_log::FrameLog;
use visavis_media::local::{LocalEvent, LocalMedia};
use visavis_media::peer::{PeerEvent, SelectedPair};
use visavis_media::session::Session;
use visavis_media::sound::processing::Processing;
use visavis_media::sound::{AudioSinkSpec, AudioSourceSpec};
use visavis_media::source::VideoSourceSpec;
use visavis_signaling::{BindError, ClientHandle, ClientUpdate, Fingerprint, PublicAddress};

use crate::awake::Awake;
use crate::call::{Call, ConnectionId, End, Input};
use crate::host::{Hosted, Hosting};
use crate::news::News;
use crate::proposal;
use crate::settings::{RecentRoom, Settings, SettingsFile};
use crate::snapshot::{Command, Phase, Pictures, Shared, Snapshot};
use crate::text::Language;
use devices::Devices;
use notices::Notices;
pub use shown::Shown;
pub use statistics::StatsSink;

/// How an engine is started.
pub struct EngineOptions {
    /// Sources and sink from the command line, instead of the devices chosen in the settings.
    pub sources: Sources,
    /// Where settings are kept; none for a headless run, which leaves no traces.
    pub settings: Option<SettingsFile>,
    /// What is remembered.
    pub remembered: Settings,
    /// What is done to the microphone's sound, where the command line chose otherwise.
    pub processing: Option<Processing>,
    /// What to tell the user first.
    pub warning: Option<String>,
    /// Where the window finds pictures; none: pictures end in the sink of a headless run.
    pub pictures: Option<Pictures>,
    /// Where pictures are seen.
    pub shown: Arc<Shown>,
    /// Where the window, or the command line, looks.
    pub shared: Shared,
    /// Frame log.
    pub log: Arc<FrameLog>,
    /// Statistics once a second.
    pub stats: Option<StatsSink>,
    /// Our name, instead of the settings'.
    pub name: Option<String>,
    /// Whether a Visavis server that has the usual port already is joined.
    pub join_running_server: bool,
    /// Give up a server after so many failed attempts; none: never.
    pub give_up_after: Option<u32>,
    /// The key of a server whose link names none.
    pub trusted: Option<Fingerprint>,
    /// Where others reach our own server, instead of this machine's likeliest address.
    pub public_address: Option<PublicAddress>,
    /// Whether devices run in the lobby (preview, level meter).
    pub preview: bool,
    /// Whether to call through a relay or not at all.
    pub relay_only: bool,
}

/// What the command line chose.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Pictures.
    pub video: Option<VideoSourceSpec>,
    /// Sound.
    pub audio: Option<AudioSourceSpec>,
    /// Where sound goes.
    pub sink: Option<AudioSinkSpec>,
    /// How much faster the clocks of sound files and test tones run, in millionths.
    pub sound_clock: i32,
}

/// What a headless run is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A sentence for the user.
    Told(News),
    /// A device of ours failed.
    Device {
        /// What is wrong, and what to do.
        sentence: String,
        /// It was asked for on the command line and never came up.
        asked: bool,
    },
    /// Another sentence.
    Said(String),
    /// The phase changed.
    Phase(Phase),
    /// A call is over.
    Ended(End),
}

/// A wish to join, as it was made.
struct Joining {
    target: String,
    server: Option<String>,
    /// The address that came of it.
    dialled: String,
}

enum Event {
    Local(LocalEvent),
    Peer(ConnectionId, PeerEvent),
    Hosted(u64, Result<Hosted, BindError>),
    Knock(u64),
    Devices(DeviceList),
    Pair(ConnectionId, Option<SelectedPair>),
    Network(surroundings::Change),
}

/// The loop's state.
pub struct Engine {
    call: Call,
    devices: Devices,
    local: Arc<LocalMedia>,
    session: Option<(ConnectionId, Session)>,
    /// The connection to the server; the number tells it from one hung up before.
    line: Option<(u64, ClientHandle)>,
    lines: u64,
    hosting: Option<Hosting>,
    /// Counts starts of our server: one that was given up may still answer.
    hostings: u64,
    /// Calls being left: they take a moment, and nobody waits for them but the end.
    leaving: JoinSet<()>,
    settings: Settings,
    file: Option<SettingsFile>,
    name: Option<String>,
    pictures: Option<Pictures>,
    shown: Arc<Shown>,
    shared: Shared,
    snapshot: Snapshot,
    notices: Notices,
    stats: Option<StatsSink>,
    pair: Option<SelectedPair>,
    join_running_server: bool,
    give_up_after: Option<u32>,
    relay_only: bool,
    /// Which key the server of this call must have.
    pinned: Option<Fingerprint>,
    /// The same, or which it had when it was trusted: its relay has it, too.
    server_key: Option<Fingerprint>,
    trusted: Option<Fingerprint>,
    public_address: Option<PublicAddress>,
    /// What was asked to be joined, to do so again once the server is trusted.
    joining: Option<Joining>,
    /// What the lobby will remember once the room was entered.
    entering: Option<RecentRoom>,
    reports: mpsc::UnboundedSender<Report>,
    events: mpsc::UnboundedSender<Event>,
    incoming: mpsc::UnboundedReceiver<Event>,
    line_updates: mpsc::Sender<(u64, ClientUpdate)>,
    from_line: mpsc::Receiver<(u64, ClientUpdate)>,
    settle_by: Option<Instant>,
    /// The devices are being listed.
    listing: bool,
    awake: Option<Awake>,
    quit: bool,
}

/// A camera that takes longer comes later; the call does not wait for it.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);

/// How often to look for devices that were plugged in or out.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Updates of the server that wait for the engine.
const LINE_UPDATES: usize = 16;

impl Engine {
    /// An engine in the lobby. Reports go to `reports`.
    pub fn new(options: EngineOptions, reports: mpsc::UnboundedSender<Report>) -> Self {
        let (events, incoming) = mpsc::unbounded_channel();
        let (line_updates, from_line) = mpsc::channel(LINE_UPDATES);
        let local_events = events.clone();
        let preview = options.pictures.as_ref().map(|p| Arc::clone(&p.local)).unwrap_or_default();
        let local = Arc::new(LocalMedia::new(
            preview,
            Arc::clone(&options.log),
            Arc::new(move |event| {
                let _ = local_events.send(Event::Local(event));
            }),
        ));
        local.set_sound_clock(options.sources.sound_clock);
        local.set_processing(options.processing.unwrap_or(options.remembered.processing));
        let mut this = Self {
            call: Call::new(rand::random()),
            devices: Devices::new(options.sources, &options.remembered, options.preview),
            local,
            session: None,
            line: None,
            lines: 0,
            hosting: None,
            hostings: 0,
            leaving: JoinSet::new(),
            settings: options.remembered,
            file: options.settings,
            name: options.name,
            pictures: options.pictures,
            shown: options.shown,
            shared: options.shared,
            snapshot: Snapshot {
                proposed_room: proposal::room(&mut rand::rng()),
                ..Snapshot::default()
            },
            notices: Notices::default(),
            stats: options.stats,
            pair: None,
            join_running_server: options.join_running_server,
            give_up_after: options.give_up_after,
            relay_only: options.relay_only,
            pinned: None,
            server_key: None,
            trusted: options.trusted,
            public_address: options.public_address,
            joining: None,
            entering: None,
            reports,
            events,
            incoming,
            line_updates,
            from_line,
            settle_by: None,
            listing: false,
            awake: None,
            quit: false,
        };
        if let Some(warning) = options.warning {
            this.push_notice(warning, true);
        }
        this
    }

    /// Runs until [`Command::Quit`], or until nobody can send commands any more. Leaves the
    /// room, closes all devices and completes the files before it returns.
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let name = self.name.clone().unwrap_or_else(|| self.settings.name.clone());
        self.input(Input::Name(name)).await;
        self.devices.enter_lobby(&self.local);
        self.announce_state().await;
        if self.file.is_some() {
            self.list_devices();
        }
        self.publish();
        let network = self.events.clone();
        let watching =
            tokio::spawn(watch::watch(move |change| network.send(Event::Network(change)).is_ok()));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.quit {
            let metering = self.devices.metering(self.call.phase());
            let deadline = self.deadline();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => self.quit = true,
                },
                Some(event) = self.incoming.recv() => self.event(event).await,
                Some((line, update)) = self.from_line.recv() => {
                    if self.line.as_ref().is_some_and(|(current, _)| *current == line) {
                        self.line_update(update).await;
                    }
                }
                Some(_) = self.leaving.join_next() => {}
                () = sleep_until(deadline) => self.deadline_passed().await,
                _ = second.tick(), if self.stats.is_some() => self.write_statistics(),
                _ = look.tick(), if self.devices.watching() => self.list_devices(),
                () = tokio::time::sleep(Duration::from_millis(80)), if metering => {
                    self.snapshot.microphone_dbfs = self.local.microphone_dbfs();
                }
            }
            self.publish();
        }
        watching.abort();
        self.input(Input::HangUp).await;
        self.finish_leaving().await;
        let local = Arc::clone(&self.local);
        // A sound file is completed by its own thread.
        let _ = tokio::task::spawn_blocking(move || local.finish(Duration::from_secs(1))).await;
    }

    /// Waits for calls that are being left; each takes a few seconds at most.
    async fn finish_leaving(&mut self) {
        while self.leaving.join_next().await.is_some() {}
    }

    /// Tells the call, and performs what it decides, which may lead to further inputs.
    async fn input(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let before = self.call.phase().clone();
            let effects = self.call.handle(input, Instant::now());
            for effect in effects {
                inputs.extend(self.perform(effect).await);
            }
            inputs.extend(self.phase_changed(&before));
        }
    }

    fn phase_changed(&mut self, before: &Phase) -> Option<Input> {
        let phase = self.call.phase().clone();
        if phase == *before {
            return None;
        }
        let _ = self.reports.send(Report::Phase(phase.clone()));
        if phase.with_peer() != before.with_peer() {
            self.awake = phase.with_peer().then(Awake::keep);
        }
        if *before == Phase::Lobby {
            self.devices.enter_call(&self.local, self.call_label());
            self.settle_by = Some(Instant::now() + SETTLE_WITHIN);
        } else if phase == Phase::Lobby && !self.quit {
            self.devices.enter_lobby(&self.local);
            self.entering = None;
            // The last name is known to whoever was called.
            self.snapshot.proposed_room = proposal::room(&mut rand::rng());
        }
        if matches!(phase, Phase::Waiting { .. } | Phase::Connecting { .. })
            && let Some(room) = self.entering.take()
        {
            self.settings.remember_room(room);
            self.save();
        }
        (*before == Phase::Lobby).then(|| self.settled()).flatten()
    }

    fn call_label(&self) -> String {
        self.entering.as_ref().map(|room| room.name().to_owned()).unwrap_or_default()
    }

    async fn announce_state(&mut self) {
        let (audio, video, screen) = self.devices.sending();
        self.local.set_muted(!audio);
        let now = Some((audio, video, screen));
        if std::mem::replace(&mut self.devices.announced, now) != now {
            self.input(Input::LocalState { audio, video, screen }).await;
        }
    }

    /// Once a call: camera and microphone are there, or known to be absent.
    fn settled(&mut self) -> Option<Input> {
        let settled = self.settle_by.is_some() && self.devices.settled();
        settled.then(|| {
            self.settle_by = None;
            Input::SourcesSettled
        })
    }

    fn deadline(&self) -> Option<Instant> {
        [self.notices.poll_timeout(), self.settle_by, self.call.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    async fn deadline_passed(&mut self) {
        let now = Instant::now();
        self.notices.handle_timeout(now);
        if self.settle_by.is_some_and(|by| by <= now) {
            self.settle_by = None;
            self.input(Input::SourcesSettled).await;
        }
        self.input(Input::Timeout).await;
    }

    fn language(&self) -> Language {
        Language::chosen(self.settings.language)
    }

    fn push_notice(&mut self, text: String, error: bool) {
        self.notices.push(Instant::now(), text, error);
    }

    fn tell(&mut self, news: News) {
        self.push_notice(news.sentence(self.language()), news.is_error());
        let _ = self.reports.send(Report::Told(news));
    }

    fn list_devices(&mut self) {
        // One that does not come back is followed by no other.
        if std::mem::replace(&mut self.listing, true) {
            return;
        }
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let _ = events.send(Event::Devices(visavis_media::devices::list()));
        });
    }

    fn save(&mut self) {
        self.snapshot.settings = Arc::new(self.settings.clone());
        if let Some(file) = &self.file
            && let Err(error) = file.save(&self.settings)
        {
            tracing::warn!(%error, "settings are not kept");
        }
    }

    fn publish(&mut self) {
        if *self.snapshot.settings != self.settings {
            self.snapshot.settings = Arc::new(self.settings.clone());
        }
        self.snapshot.phase = self.call.phase().clone();
        self.snapshot.peer = self.call.peer().cloned();
        self.snapshot.pictures_paused = self.call.pictures_paused();
        let language = self.language();
        self.snapshot.camera = self.devices.camera.shown(language);
        self.snapshot.screen = self.devices.screen.shown(language);
        self.snapshot.microphone = self.devices.microphone_shown(language);
        self.snapshot.speaker = self.devices.speaker.shown(language);
        self.snapshot.notices = self.notices.list();
        self.shared.publish(self.snapshot.clone());
    }

    fn write_statistics(&mut self) {
        let Some(stats) = &mut self.stats else { return };
        let counters = self.session.as_ref().map(|(id, session)| (*id, session.counters()));
        let facts = statistics::Facts {
            phase: self.call.phase(),
            initiator: self.call.initiator(),
            pair: self.pair.as_ref().map(|pair| pair.kind.as_str()),
            ready_at: self.call.ready_at(),
            connected_at: self.call.connected_at(),
            first_shown_at: self.shown.first(),
        };
        stats.write(Instant::now(), counters, &facts);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
