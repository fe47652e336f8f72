//! The window: draws the newest [`Snapshot`], sends [`Command`]s, and shows pictures. It never
//! waits for the engine, and the engine never waits for it.

mod address;
mod bar;
mod call;
mod convert;
mod fit;
mod icons;
mod keys;
mod lobby;
mod made_once;
mod notices;
mod recent;
mod renderer;
mod settings;
mod stranger;
mod theme;
mod video;
mod video_copy;
mod video_gl;
mod waiting;
mod widgets;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eframe::{egui, glow};

use crate::snapshot::{Command, DeviceState, Phase, Pictures, Shared, Snapshot};
use crate::text::{Language, Words};
pub use renderer::{RENDERER_VARIABLE, Renderer, ShownHook};

/// The window's title.
pub const TITLE: &str = "Visavis";
/// Names the window to the desktop.
const APP_ID: &str = "visavis";
/// The size it opens with, points: that of most calls' pictures, which are copied then.
const INITIAL_SIZE: [f32; 2] = [1280.0, 720.0];
/// The smallest size it can be given, points.
pub const SMALLEST_SIZE: [f32; 2] = [480.0, 400.0];

/// What a window is made from.
pub struct WindowInit {
    /// What to show.
    pub snapshot: Shared,
    /// Where wishes go. Called on the window's thread: must not block.
    pub commands: Box<dyn Fn(Command) + Send>,
    /// The pictures to show.
    pub pictures: Pictures,
    /// Told of each remote frame when it is first handed to the screen (the frame log).
    pub on_shown: Option<ShownHook>,
}

/// How the window opens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowOptions {
    /// Width and height in points, instead of the usual.
    pub size: Option<[f32; 2]>,
    /// Fill the screen.
    pub full_screen: bool,
}

/// Why no window opened. Each message says what to use instead.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// No desktop at all.
    #[error(
        "there is no display to open a window on (neither WAYLAND_DISPLAY nor DISPLAY is set): \
         use `visavis call ROOM --headless` for a call without a window, or `visavis serve` for \
         the server alone"
    )]
    NoDisplay,
    /// A desktop, but no window on it.
    #[error(
        "the window cannot be opened ({0}): check the display and its OpenGL driver, or use \
         `visavis call ROOM --headless` for a call without a window, or `visavis serve` for the \
         server alone"
    )]
    Unavailable(String),
}

/// Opens the window and returns when it is closed. Must run on the main thread.
pub fn run(init: WindowInit, options: &WindowOptions) -> Result<(), WindowError> {
    if !display_is_there() {
        return Err(WindowError::NoDisplay);
    }
    let mut viewport = egui::ViewportBuilder::default()
        .with_title(TITLE)
        .with_app_id(APP_ID)
        .with_inner_size(options.size.unwrap_or(INITIAL_SIZE))
        .with_min_inner_size(SMALLEST_SIZE)
        .with_fullscreen(options.full_screen);
    match eframe::icon_data::from_png_bytes(include_bytes!("../assets/icon.png")) {
        Ok(icon) => viewport = viewport.with_icon(icon),
        Err(error) => tracing::warn!("the window has no icon: {error}"),
    }
    let native = eframe::NativeOptions {
        viewport,
        renderer: eframe::Renderer::Glow,
        // Ours prefers the Simplified Chinese shapes of characters.
        system_font_fallback: false,
        centered: true,
        // Of no use to pictures, and a sixth of their painting where OpenGL runs in software.
        dithering: false,
        ..eframe::NativeOptions::default()
    };
    let create: eframe::AppCreator<'_> = Box::new(|context| {
        Ok(Box::new(Window::new(&context.egui_ctx, context.gl.as_deref(), init)))
    });
    eframe::run_native(TITLE, native, create)
        .map_err(|error| WindowError::Unavailable(reason(&error.to_string())))
}

/// What the system said, without the place in a library's source where it was noticed.
fn reason(message: &str) -> String {
    let noticed = message.rfind(".rs:").map(|at| &message[at + 4..]);
    noticed.and_then(|rest| rest.split_once(": ")).map_or(message, |(_, said)| said).to_owned()
}

/// Whether a window could be opened at all.
pub fn display_is_there() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let needs_one = cfg!(all(unix, not(any(target_os = "macos", target_os = "android"))));
    !needs_one || set("DISPLAY") || set("WAYLAND_DISPLAY") || set("WAYLAND_SOCKET")
}

/// What only the window knows: half-typed words, what is open, what the pointer did.
struct Local {
    words: &'static Words,
    own: video::Picture,
    remote: video::Picture,
    form: lobby::Form,
    call: call::CallState,
    toasts: notices::Toasts,
    full_screen: bool,
}

/// The window's contents.
pub struct Window {
    shared: Shared,
    commands: Box<dyn Fn(Command) + Send>,
    pictures: Pictures,
    system_language: Language,
    local: Local,
    quit_sent: bool,
}

impl Window {
    /// Prepares fonts and colours in `ctx` and lets news wake it. `gl` is the window's OpenGL,
    /// `None` where nothing is painted (tests).
    pub fn new(ctx: &egui::Context, gl: Option<&glow::Context>, init: WindowInit) -> Self {
        theme::apply(ctx);
        ctx.add_font_provider(Arc::new(theme::SystemFonts::new(font_locale())));
        let renderer = Renderer::choose(gl);
        tracing::debug!("pictures are painted as {renderer:?}");
        let WindowInit { snapshot, commands, pictures, on_shown } = init;
        let mut remote = video::Picture::new("remote", Arc::clone(&pictures.remote), renderer);
        remote.set_on_shown(on_shown);
        let own = video::Picture::new("own", Arc::clone(&pictures.local), renderer);
        wake_on_news(ctx, &snapshot, &pictures, remote.shown_counter());
        let system_language = Language::of_system();
        Self {
            shared: snapshot,
            commands,
            pictures,
            system_language,
            local: Local {
                words: system_language.words(),
                own,
                remote,
                form: lobby::Form::default(),
                call: call::CallState::default(),
                toasts: notices::Toasts::default(),
                full_screen: false,
            },
            quit_sent: false,
        }
    }

    /// How many remote frames reached the screen.
    pub fn remote_shown(&self) -> u64 {
        self.local.remote.shown()
    }

    /// How many frames of the own camera reached the screen.
    pub fn own_shown(&self) -> u64 {
        self.local.own.shown()
    }

    /// Draws everything into `ui` and sends what was asked for.
    pub fn show(&mut self, ui: &mut egui::Ui) {
        let snapshot = self.shared.latest();
        self.prepare(ui.ctx(), &snapshot);
        let local = &mut self.local;
        let mut commands = keys::shortcuts(ui.ctx(), &snapshot, local);
        commands.extend(match &snapshot.phase {
            Phase::Lobby => lobby::lobby_ui(ui, &snapshot, local),
            Phase::Joining { .. } | Phase::Waiting { .. } => {
                waiting::waiting_ui(ui, &snapshot, local)
            }
            Phase::Connecting { .. } | Phase::InCall { .. } | Phase::Reconnecting { .. } => {
                call::call_ui(ui, &snapshot, local)
            }
        });
        commands.extend(notices::notices_ui(ui, &snapshot, local));
        for command in commands {
            (self.commands)(command);
        }
    }

    /// Brings language and pictures in line with what is to be shown.
    fn prepare(&mut self, ctx: &egui::Context, snapshot: &Snapshot) {
        let local = &mut self.local;
        local.words = snapshot.settings.language.unwrap_or(self.system_language).words();
        local.full_screen =
            ctx.input(|input| input.viewport().fullscreen).unwrap_or(local.full_screen);
        local.own.poll();
        local.remote.poll();
        let shown = [&snapshot.camera, &snapshot.screen];
        if !shown.iter().any(|device| matches!(device, DeviceState::On(_))) {
            local.own.clear();
        }
        let peer_sends = snapshot.peer.as_ref().is_some_and(|peer| peer.video && !peer.paused);
        if !snapshot.phase.with_peer() || !peer_sends {
            local.remote.clear();
        }
        if !snapshot.phase.with_peer() {
            local.call.forget_activity();
        }
        if snapshot.phase == Phase::Lobby {
            local.call.panel = false;
        }
    }

    fn quit(&mut self) {
        if !std::mem::replace(&mut self.quit_sent, true) {
            (self.commands)(Command::Quit);
        }
    }
}

impl eframe::App for Window {
    /// Also runs while the window is hidden: old pictures must not wait there.
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.local.own.poll();
        self.local.remote.poll();
        if self.shared.closing() && !self.quit_sent {
            ctx.send_viewport_cmd(egui::ViewportCommand::Close);
        }
        if ctx.input(|input| input.viewport().close_requested()) {
            self.quit();
        }
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.show(ui);
    }

    fn clear_color(&self, _visuals: &egui::Visuals) -> [f32; 4] {
        theme::BACKGROUND.to_normalized_gamma_f32()
    }

    fn on_exit(&mut self, gl: Option<&glow::Context>) {
        if let Some(gl) = gl {
            self.local.own.destroy(gl);
            self.local.remote.destroy(gl);
        }
        self.quit();
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // The hooks hold the context, and with it every texture.
        self.shared.set_wake(None);
        self.pictures.local.set_wake(None);
        self.pictures.remote.set_wake(None);
    }
}

/// A request for "now" paints twice; one for a nanosecond later paints once.
const NOW: Duration = Duration::from_nanos(1);

/// While the other's pictures flow, the own picture waits for the next of them (at most this
/// long): one painting shows both.
const OWN_PICTURE_WAITS: Duration = Duration::from_millis(25);

fn wake_on_news(
    ctx: &egui::Context,
    shared: &Shared,
    pictures: &Pictures,
    remote_shown: Arc<AtomicU64>,
) {
    let news = ctx.clone();
    shared.set_wake(Some(Arc::new(move || news.request_repaint_after(NOW))));
    let remote = ctx.clone();
    pictures.remote.set_wake(Some(Arc::new(move || remote.request_repaint_after(NOW))));
    let own = ctx.clone();
    let seen = AtomicU64::new(0);
    pictures.local.set_wake(Some(Arc::new(move || {
        let shown = remote_shown.load(Ordering::Relaxed);
        let flowing = seen.swap(shown, Ordering::Relaxed) != shown;
        own.request_repaint_after(if flowing { OWN_PICTURE_WAITS } else { NOW });
    })));
}

/// Which shapes Chinese characters get: the system's own, if it is set to a language that uses
/// them, else the simplified ones.
fn font_locale() -> &'static str {
    let locale = sys_locale::get_locale().unwrap_or_default().to_lowercase().replace('_', "-");
    let traditional = ["zh-tw", "zh-hk", "zh-mo", "zh-hant"];
    if traditional.iter().any(|known| locale.starts_with(known)) {
        "zh-Hant"
    } else if locale.starts_with("ja") {
        "ja"
    } else if locale.starts_with("ko") {
        "ko"
    } else {
        "zh-Hans"
    }
}

/// How long ago `since` was; zero if it lies ahead.
fn passed(since: Instant) -> Duration {
    Instant::now().saturating_duration_since(since)
}

#[cfg(test)]
mod reason_tests {
    use super::*;

    #[test]
    fn an_error_of_the_desktop_is_told_without_source_lines() {
        let told = reason("winit EventLoopError: os error at /x/linux/mod.rs:788: No X server");
        assert_eq!(told, "No X server");
        assert_eq!(reason("OpenGL: no context"), "OpenGL: no context");
        assert_eq!(reason("broken.rs:7"), "broken.rs:7");
    }
}
