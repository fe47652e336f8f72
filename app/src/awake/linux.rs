//! Over D-Bus: the desktop's screen saver (freedesktop.org idle inhibition) and systemd's
//! inhibitor locks. They let go when the connection or the file that holds them is closed.

use std::fmt::Display;

use zbus::Connection;
use zbus::zvariant::OwnedFd;

use super::REASON;

const WHO: &str = "Visavis";

/// Holds what it gets until dropped.
pub(super) async fn hold() {
    let screen = match Connection::session().await {
        Ok(bus) => screen_saver(&bus).await.map(|()| bus),
        Err(error) => Err(error),
    };
    let screen = granted("screen saver", screen);
    let locks = match Connection::system().await {
        Ok(bus) => {
            // Each by itself: the system may grant one and refuse the other.
            let idle = granted("idleness", inhibit(&bus, "idle").await);
            [idle, granted("sleep", inhibit(&bus, "sleep").await)]
        }
        Err(error) => {
            tracing::debug!(%error, "no system bus");
            [None, None]
        }
    };
    std::future::pending::<()>().await;
    drop((screen, locks));
}

fn granted<T, E: Display>(what: &str, result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| tracing::debug!(%error, what, "not inhibited")).ok()
}

/// Until the connection ends.
async fn screen_saver(bus: &Connection) -> zbus::Result<()> {
    let name = "org.freedesktop.ScreenSaver";
    let path = "/org/freedesktop/ScreenSaver";
    bus.call_method(Some(name), path, Some(name), "Inhibit", &(WHO, REASON)).await.map(drop)
}

/// Until the file is closed.
async fn inhibit(bus: &Connection, what: &str) -> zbus::Result<OwnedFd> {
    let name = "org.freedesktop.login1";
    let (path, manager) = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager");
    let arguments = (what, WHO, REASON, "block");
    let reply = bus.call_method(Some(name), path, Some(manager), "Inhibit", &arguments).await?;
    reply.body().deserialize()
}
