//! The one loop that performs what the call decides: devices, server, connections. It runs on
//! the runtime's own thread; the window and the command line only send commands and look at
//! snapshots.

mod devices;
mod notices;
mod perform;
mod shown;
mod statistics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use visavis_media::devices::DeviceList;
use visavis_media::frame_log::FrameLog;
use visavis_media::local::{LocalEvent, LocalMedia};
use visavis_media::peer::PeerEvent;
use visavis_media::session::Session;
use visavis_media::sound::{AudioSinkSpec, AudioSourceSpec};
use visavis_media::source::VideoSourceSpec;
use visavis_signaling::client::Trouble;
use visavis_signaling::{
    BindError, CallLink, ClientHandle, ClientUpdate, Fingerprint, LinkError, PublicAddress,
    RoomName, ServerUrl, Target, link::pinned_in,
};

use crate::call::{Call, ConnectionId, End, Input};
use crate::host::{Hosted, Hosting};
use crate::news::News;
use crate::proposal;
use crate::settings::{RecentRoom, Settings, SettingsFile};
use crate::snapshot::{Command, Phase, Pictures, Shared, Snapshot, Stranger};
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
    Pair(ConnectionId, Option<String>),
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
    pair: Option<String>,
    join_running_server: bool,
    give_up_after: Option<u32>,
    relay_only: bool,
    /// Which key the server of this call must have.
    pinned: Option<Fingerprint>,
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
    quit: bool,
}

/// A camera that takes longer comes later; the call does not wait for it.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);

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
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
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
                () = tokio::time::sleep(Duration::from_millis(80)), if metering => {
                    self.snapshot.microphone_dbfs = self.local.microphone_dbfs();
                }
            }
            self.publish();
        }
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

    async fn command(&mut self, command: Command) {
        match command {
            Command::Host { room } => self.host(room).await,
            Command::Join { target, server } => self.join(&target, server.as_deref()).await,
            Command::TrustStranger => self.trust_stranger().await,
            Command::DistrustStranger => self.snapshot.stranger = None,
            Command::HangUp => self.input(Input::HangUp).await,
            Command::SetMicrophone(on) => {
                self.settings.microphone_on = on;
                self.devices.set_microphone(&self.local, on, self.call.phase());
                self.announce_state().await;
                self.save();
            }
            Command::SetCamera(on) => {
                self.settings.camera_on = on;
                self.devices.set_camera(&self.local, on);
                self.announce_state().await;
                self.save();
            }
            Command::ChooseCamera(id) => {
                self.settings.camera.clone_from(&id);
                self.devices.choose_camera(&self.local, id);
                self.save();
            }
            Command::ChooseMicrophone(id) => {
                self.settings.microphone.clone_from(&id);
                self.devices.choose_microphone(&self.local, id);
                self.save();
            }
            Command::ChooseSpeaker(id) => {
                self.settings.speaker.clone_from(&id);
                self.devices.choose_speaker(&self.local, id);
                self.save();
            }
            Command::SetName(name) => {
                self.settings.name.clone_from(&name);
                self.input(Input::Name(name)).await;
                self.save();
            }
            Command::SetLanguage(language) => {
                self.settings.language = language;
                self.save();
            }
            Command::RefreshDevices => self.list_devices(),
            Command::ProposeRoom => {
                self.snapshot.proposed_room = proposal::room(&mut rand::rng());
            }
            Command::Dismiss(id) => self.notices.dismiss(id),
            Command::Quit => self.quit = true,
        }
    }

    async fn host(&mut self, room: String) {
        self.pinned = None;
        self.joining = None;
        self.snapshot.stranger = None;
        match RoomName::parse(&room) {
            Ok(name) => {
                self.entering = Some(RecentRoom {
                    target: name.as_str().to_owned(),
                    server: None,
                    hosted: true,
                    when: unix_seconds(),
                });
                self.input(Input::Host { room: name.as_str().to_owned() }).await;
            }
            Err(error) => {
                self.tell(News::HostFailed(error.to_string()));
                let _ = self.reports.send(Report::Ended(End::HostFailed));
            }
        }
    }

    async fn join(&mut self, target: &str, server: Option<&str>) {
        self.snapshot.stranger = None;
        match link(target, server) {
            Ok(link) => {
                self.pinned = link.fingerprint.or(self.trusted);
                self.joining = Some(Joining {
                    target: target.to_owned(),
                    server: server.map(str::to_owned),
                    dialled: link.server.to_string(),
                });
                self.entering = Some(RecentRoom {
                    target: target.to_owned(),
                    server: server.map(str::to_owned),
                    hosted: false,
                    when: unix_seconds(),
                });
                self.input(Input::Join {
                    server: link.server.to_string(),
                    room: link.room.as_str().to_owned(),
                    invite: Some(link.to_string()),
                })
                .await;
            }
            Err(error) => {
                self.tell(News::ServerRefused(error.to_string()));
                let _ = self.reports.send(Report::Ended(End::ServerRefused));
            }
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Local(event) => self.local_event(event).await,
            Event::Peer(id, event) => {
                let connected = event == PeerEvent::Connected;
                self.input(Input::Peer(id, event)).await;
                if connected {
                    self.look_up_pair(id);
                }
            }
            Event::Hosted(hosting, hosted) => {
                if let Some(input) = self.hosted(hosting, hosted) {
                    self.input(input).await;
                }
            }
            Event::Knock(line) => {
                if let Some((current, handle)) = &self.line
                    && *current == line
                    && let Err(error) = handle.join_again()
                {
                    tracing::debug!(%error, "asking for the seat again");
                }
            }
            Event::Devices(list) => self.snapshot.devices = Arc::new(list),
            Event::Pair(id, pair) => {
                if self.session.as_ref().is_some_and(|(current, _)| *current == id) {
                    self.pair = pair;
                }
            }
        }
    }

    async fn local_event(&mut self, event: LocalEvent) {
        if let Some(fault) = self.devices.handle(event) {
            let sentence = fault.error.sentence(Language::English);
            let _ = self.reports.send(Report::Device { sentence, asked: fault.asked });
            // In the lobby the place of the picture says it.
            if *self.call.phase() != Phase::Lobby {
                self.push_notice(fault.error.sentence(self.language()), true);
            }
        }
        self.announce_state().await;
        if let Some(settled) = self.settled() {
            self.input(settled).await;
        }
    }

    async fn line_update(&mut self, update: ClientUpdate) {
        match update {
            ClientUpdate::Event(event) => self.input(Input::Server(event)).await,
            ClientUpdate::Lost { reason, .. } => {
                self.input(Input::ServerLost(reason.to_string())).await;
            }
            ClientUpdate::Refused { reason } if is_distrust(&reason) => {
                self.distrust(reason).await;
            }
            ClientUpdate::Refused { reason } => {
                self.input(Input::ServerRefused(reason.to_string())).await;
            }
            ClientUpdate::Connecting { .. } | ClientUpdate::Connected => {}
        }
    }

    /// The server is not recognised. Where there is a window, the user decides about a stranger.
    async fn distrust(&mut self, reason: Trouble) {
        match reason {
            Trouble::UnknownCertificate { server, fingerprint } if self.pictures.is_some() => {
                self.input(Input::HangUp).await;
                self.snapshot.stranger = Some(Stranger { server: server.to_string(), fingerprint });
            }
            Trouble::UnknownCertificate { .. } => {
                let how = "If it is the right server, add --trust-fingerprint FINGERPRINT.";
                let _ = self.reports.send(Report::Said(how.to_owned()));
                self.input(Input::ServerUntrusted(reason)).await;
            }
            reason => self.input(Input::ServerUntrusted(reason)).await,
        }
    }

    async fn trust_stranger(&mut self) {
        let (Some(stranger), Some(joining)) = (self.snapshot.stranger.take(), self.joining.take())
        else {
            return;
        };
        // Also under the address that led there, which may be one in the open.
        for server in [stranger.server, joining.dialled] {
            self.settings.trusted.insert(server, stranger.fingerprint);
        }
        self.save();
        self.join(&joining.target, joining.server.as_deref()).await;
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
        let (audio, video) = self.devices.sending();
        self.local.set_muted(!audio);
        if self.devices.announced.replace((audio, video)) != Some((audio, video)) {
            self.input(Input::LocalState { audio, video }).await;
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

    fn list_devices(&self) {
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
            pair: self.pair.as_deref(),
            ready_at: self.call.ready_at(),
            connected_at: self.call.connected_at(),
            first_shown_at: self.shown.first(),
        };
        stats.write(Instant::now(), counters, &facts);
    }
}

/// The room on a server that `target` and `server` name together.
fn link(target: &str, server: Option<&str>) -> Result<CallLink, LinkError> {
    match target.parse()? {
        Target::Link(link) => Ok(link),
        Target::Room(room) => {
            // Without a server the error says what an address looks like.
            let text = server.unwrap_or_default();
            Ok(CallLink::new(text.parse::<ServerUrl>()?, room, pinned_in(text)?))
        }
    }
}

/// Whether a server was refused for what it is, and not for what it does.
fn is_distrust(reason: &Trouble) -> bool {
    matches!(
        reason,
        Trouble::WrongCertificate(_)
            | Trouble::ChangedCertificate { .. }
            | Trouble::UnknownCertificate { .. }
            | Trouble::BadCertificate { .. }
            | Trouble::NotSecure(_)
    )
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
