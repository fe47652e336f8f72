//! The desktop's portal, which asks the user what to share (org.freedesktop.portal.ScreenCast): the
//! only user of `ashpd`.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashpd::desktop::screencast::{CursorMode, Screencast, SelectSourcesOptions, SourceType};
use ashpd::desktop::{PersistMode, ResponseError, Session};
use ashpd::enumflags2::BitFlags;
use ashpd::{Error, PortalError, zbus};
use futures_util::{FutureExt, StreamExt};

/// The portal may take so long for what needs no user; D-Bus may have to start it first.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The longest wait when a session is closed, which works without an answer too.
const CLOSE_WITHIN: Duration = Duration::from_millis(300);

/// With it the portal does not ask again. It is good once, and as long as this program runs.
static TOKEN: Mutex<Option<String>> = Mutex::new(None);

type Sharing = Session<Screencast>;

/// That the user allowed it.
pub(super) struct Grant {
    node: u32,
    session: Arc<Sharing>,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Grant {
    /// The node of PipeWire with the pictures.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// Whether the desktop ended it, as its user may. Not to be asked again after that.
    pub fn ended(&mut self) -> bool {
        self.closed.as_mut().now_or_never().is_some()
    }

    /// Tells the desktop that it is over.
    pub async fn close(&self) {
        close(&self.session).await;
    }
}

/// The next time the user is asked again.
pub(super) fn forget() {
    drop(take_token());
}

/// Asks, unless it becomes `unwanted` before there is an answer. With the grant comes the
/// connection to PipeWire.
pub(super) async fn ask(
    unwanted: impl Future<Output = ()>,
) -> Result<Option<(Grant, OwnedFd)>, String> {
    let mut session = None;
    let answer = tokio::select! {
        answer = choose(&mut session) => answer.map(Some),
        () = unwanted => Ok(None),
    };
    let Some(session) = session else {
        return answer.map(|_| None);
    };
    match answer {
        Ok(Some((node, remote))) => {
            let watched = Arc::clone(&session);
            let closed = Box::pin(async move { until_closed(&watched).await });
            Ok(Some((Grant { node, session, closed }, remote)))
        }
        other => {
            // Takes its dialog from the screen.
            close(&session).await;
            other.map(|_| None)
        }
    }
}

/// The node that the user chose and the connection it is on; puts down the session for it.
async fn choose(opened: &mut Option<Arc<Sharing>>) -> Result<(u32, OwnedFd), String> {
    let portal = limited(Screencast::new()).await?;
    let session = limited(portal.create_session(Default::default())).await?;
    let session: &Sharing = opened.insert(Arc::new(session));
    let mut wish = SelectSourcesOptions::default()
        .set_sources(BitFlags::from(SourceType::Monitor))
        .set_multiple(false);
    // Older portals do not know the property, and show no pointer.
    let modes = limited(portal.available_cursor_modes()).await.unwrap_or_default();
    if modes.contains(CursorMode::Embedded) {
        wish = wish.set_cursor_mode(CursorMode::Embedded);
    }
    // Likewise, and they ask each time.
    if portal.version() >= 4 {
        let token = take_token();
        wish = wish.set_persist_mode(PersistMode::Application).set_restore_token(token.as_deref());
    }
    limited(portal.select_sources(session, wish)).await?.response().map_err(said)?;
    // Without a limit: here a person decides.
    let started = portal.start(session, None, Default::default()).await.map_err(said)?;
    let shared = started.response().map_err(said)?;
    let node = shared.streams().first().ok_or("the desktop shared nothing")?.pipe_wire_node_id();
    let token = shared.restore_token().map(str::to_owned);
    *TOKEN.lock().unwrap_or_else(PoisonError::into_inner) = token;
    let remote = limited(portal.open_pipe_wire_remote(session, Default::default())).await;
    let remote = remote.map_err(|error| {
        format!("the desktop gives no way to PipeWire (is `pipewire` running?): {error}")
    })?;
    Ok((node, remote))
}

fn take_token() -> Option<String> {
    TOKEN.lock().unwrap_or_else(PoisonError::into_inner).take()
}

async fn until_closed(session: &Sharing) {
    // Without a bus there is no session either.
    if let Ok(signals) = session.receive_closed().await {
        pin!(signals).next().await;
    }
}

async fn close(session: &Sharing) {
    // A session that the desktop has closed is gone already.
    let _ = tokio::time::timeout(CLOSE_WITHIN, session.close()).await;
}

async fn limited<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => answer.map_err(said),
        Err(_) => Err("the desktop's portal (xdg-desktop-portal) does not answer".to_owned()),
    }
}

/// For the user.
#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn said(error: Error) -> String {
    match &error {
        Error::Response(ResponseError::Cancelled) => {
            "it was declined in the desktop's dialog: share again and choose a screen there"
                .to_owned()
        }
        Error::PortalNotFound(_) => no_portal(),
        Error::Zbus(bus) | Error::Portal(PortalError::ZBus(bus)) => match bus {
            zbus::Error::MethodError(name, ..) if nobody_there(name) => no_portal(),
            zbus::Error::InputOutput(_) | zbus::Error::Address(_) | zbus::Error::Connection(..) => {
                format!("there is no session bus (D-Bus) to ask the desktop over: {bus}")
            }
            _ => format!("the desktop's portal failed: {bus}"),
        },
        _ => format!("the desktop's portal refused: {error}"),
    }
}

/// What the bus says where no program stands for the name, or can be started for it.
fn nobody_there(error: &str) -> bool {
    let error = error.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default();
    error.starts_with("Spawn.")
        || ["ServiceUnknown", "NameHasNoOwner", "UnknownInterface", "UnknownMethod"]
            .contains(&error)
}

fn no_portal() -> String {
    "this desktop has no portal for it: install xdg-desktop-portal and its part for the desktop \
     (xdg-desktop-portal-gnome, -kde or -wlr), then log in again"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_portal_is_told_from_a_failing_one() {
        for name in ["ServiceUnknown", "Spawn.ChildExited", "UnknownInterface"] {
            assert!(nobody_there(&format!("org.freedesktop.DBus.Error.{name}")), "{name}");
        }
        for name in ["org.freedesktop.DBus.Error.NoReply", "org.example.ServiceUnknown", ""] {
            assert!(!nobody_there(name), "{name}");
        }
    }
}
