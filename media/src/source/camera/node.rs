//! Which cameras there are and which one is meant.

use nokhwa::utils::CameraIndex;

#[cfg(target_os = "linux")]
use super::v4l2;
use crate::devices::{self, Device};
use crate::source::{DeviceSelector, SourceError};

/// A camera and how its driver calls it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its names.
    pub device: Device,
    /// How its driver calls it.
    pub index: CameraIndex,
}

/// The cameras by number.
#[cfg(target_os = "linux")]
pub fn nodes() -> Vec<Node> {
    let node = |found: v4l2::CaptureNode| Node {
        device: Device { id: found.path(), name: found.name, default: false },
        index: CameraIndex::Index(found.number),
    };
    v4l2::capture_nodes().into_iter().map(node).collect()
}

/// The cameras in the system's order.
#[cfg(not(target_os = "linux"))]
pub fn nodes() -> Vec<Node> {
    let Ok(found) = nokhwa::query(nokhwa::utils::ApiBackend::Auto) else {
        return Vec::new();
    };
    let node = |info: nokhwa::utils::CameraInfo| Node {
        // `misc` holds the unique id (macOS) or the symbolic link (Windows).
        device: Device { id: info.misc(), name: info.human_name(), default: false },
        index: info.index().clone(),
    };
    found.into_iter().map(node).collect()
}

/// The camera that is meant.
///
/// # Errors
/// When there is none, or none of this name.
pub fn choose(selector: &DeviceSelector) -> Result<Node, SourceError> {
    let nodes = nodes();
    let listed = devices::arrange(nodes.iter().map(|node| node.device.clone()).collect());
    if listed.is_empty() {
        return Err(SourceError::NoCamera);
    }
    let device = devices::resolve(&canonical(selector), &listed).map(|index| &listed[index]);
    let node = device.and_then(|device| {
        let node = nodes.into_iter().find(|node| node.device.id == device.id)?;
        Some(Node { device: device.clone(), ..node })
    });
    node.ok_or_else(|| SourceError::UnknownCamera {
        wanted: devices::wanted(selector),
        available: devices::available(&listed),
    })
}

/// Follows links like `/dev/v4l/by-id/...` to the node they stand for.
pub(super) fn canonical(selector: &DeviceSelector) -> DeviceSelector {
    match selector {
        DeviceSelector::Name(name) if name.starts_with('/') => std::fs::canonicalize(name)
            .map_or_else(
                |_| selector.clone(),
                |path| DeviceSelector::Name(path.to_string_lossy().into_owned()),
            ),
        other => other.clone(),
    }
}
