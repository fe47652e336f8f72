//! The keyboard: M, V, S, F, Esc. Letters typed into a field are letters.

use eframe::egui::{Context, Event, Key, Popup, ViewportCommand};

use super::Local;
use crate::snapshot::{Command, Phase, Snapshot};

/// What the keys pressed since the last frame ask for.
pub fn shortcuts(ctx: &Context, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    let mut commands = Vec::new();
    if ctx.text_edit_focused() || Popup::is_any_open(ctx) {
        return commands;
    }
    for key in pressed(ctx) {
        match key {
            Key::M => commands.push(Command::SetMicrophone(!snapshot.microphone.wanted())),
            Key::V => commands.push(Command::SetCamera(!snapshot.camera.wanted())),
            Key::S if snapshot.phase.with_peer() => {
                commands.push(Command::ShareScreen(!snapshot.screen.wanted()));
            }
            Key::F => toggle_full_screen(ctx, local),
            Key::Escape => commands.extend(escape(ctx, snapshot, local)),
            _ => {}
        }
    }
    commands
}

/// Keys that went down, without the repetitions of a held one.
fn pressed(ctx: &Context) -> Vec<Key> {
    ctx.input(|input| {
        let down = |event: &Event| match event {
            Event::Key { key, pressed: true, repeat: false, modifiers, .. }
                if modifiers.is_none() =>
            {
                Some(*key)
            }
            _ => None,
        };
        input.events.iter().filter_map(down).collect()
    })
}

/// Fills the screen, or gives it back.
pub fn toggle_full_screen(ctx: &Context, local: &mut Local) {
    local.full_screen = !local.full_screen;
    ctx.send_viewport_cmd(ViewportCommand::Fullscreen(local.full_screen));
}

/// The nearest way out: an open question, the devices, full screen, then the call itself.
fn escape(ctx: &Context, snapshot: &Snapshot, local: &mut Local) -> Option<Command> {
    if local.call.leaving {
        local.call.leaving = false;
    } else if local.call.panel {
        local.call.panel = false;
    } else if local.full_screen {
        toggle_full_screen(ctx, local);
    } else {
        match snapshot.phase {
            Phase::Lobby => {}
            Phase::Joining { .. } | Phase::Waiting { .. } => return Some(Command::HangUp),
            Phase::Connecting { .. } | Phase::InCall { .. } | Phase::Reconnecting { .. } => {
                local.call.leaving = true;
            }
        }
    }
    None
}
