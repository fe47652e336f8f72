//! How many files, and so sockets, the system lets this process open.

/// What a server needs besides its clients' sockets: listeners, keys, logs, relays.
pub(crate) const RESERVED: usize = 128;

/// Raises the limit to the highest the system allows without asking, and returns it; `None`
/// where there is none or it is not known.
#[cfg(unix)]
pub(crate) fn raise_limit() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        // macOS allows less than it says.
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
}

/// No such limit here.
#[cfg(not(unix))]
pub(crate) fn raise_limit() -> Option<usize> {
    None
}

/// As many of `wanted` connections as `limit` files leave room for.
pub(crate) fn affordable(wanted: usize, limit: Option<usize>) -> usize {
    limit.map_or(wanted, |limit| wanted.min(limit.saturating_sub(RESERVED).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_limit_ends_up_at_its_highest() {
        let first = raise_limit();
        assert!(first.is_none_or(|limit| limit > RESERVED));
        assert_eq!(raise_limit(), first);
    }

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(affordable(10_000, None), 10_000);
        assert_eq!(affordable(10_000, Some(1_048_576)), 10_000);
        assert_eq!(affordable(10_000, Some(1024)), 1024 - RESERVED);
        assert_eq!(affordable(10_000, Some(10)), 1);
    }
}
