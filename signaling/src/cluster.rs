//! Many servers that are one: rooms have one owner among the nodes, and everybody's words go
//! there. Redis holds who owns which room, and carries what nodes say to each other.
//!
//! The rules of rooms exist once, in the owner's [`Registry`](crate::room::Registry): the other
//! nodes forward. See `docs/architecture.md`, “Many nodes”.

pub mod lease;
pub mod link;
mod redis;
mod router;
mod scripts;
mod task;
pub mod wire;

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use url::Url;

pub use self::router::{ClusterTimes, Owner};
use self::{redis::Store, task::Task};
use crate::{
    hub::{Hub, INBOX},
    token::TokenKey,
};

/// Where many nodes meet: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Url);

/// Not an address of Redis that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RedisUrlError {
    /// Not a URL.
    #[error("This is no address of Redis: write redis://HOST:PORT or redis://HOST:PORT/DB.")]
    Malformed,
    /// `rediss:`.
    #[error(
        "Redis is not reached over TLS from here: use redis:// in a private network, or through a \
         tunnel."
    )]
    Tls,
    /// The path is no number.
    #[error("After the port of Redis comes the number of a database, as in redis://HOST:6379/1.")]
    Database,
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| RedisUrlError::Malformed)?;
        match url.scheme() {
            "redis" => {}
            "rediss" => return Err(RedisUrlError::Tls),
            _ => return Err(RedisUrlError::Malformed),
        }
        if url.host_str().is_none_or(str::is_empty)
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(RedisUrlError::Malformed);
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && database.parse::<u16>().is_err() {
            return Err(RedisUrlError::Database);
        }
        Ok(Self(url))
    }
}

impl RedisUrl {
    /// The whole of it, password included.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Host and port, for people.
    pub fn server(&self) -> String {
        format!("{}:{}", self.0.host_str().unwrap_or_default(), self.0.port().unwrap_or(6379))
    }
}

impl fmt::Debug for RedisUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}{}", self.server(), self.0.path())
    }
}

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Where the nodes meet.
    pub url: RedisUrl,
    /// Nodes with the same prefix, in the same database, are one cluster.
    pub prefix: String,
    /// Seals resume tokens on every node; if `None`, one is kept in Redis.
    pub secret: Option<[u8; TokenKey::LENGTH]>,
    /// When it does what.
    pub times: ClusterTimes,
}

impl ClusterOptions {
    /// The usual ones.
    pub fn new(url: RedisUrl) -> Self {
        Self { url, prefix: "visavis".into(), secret: None, times: ClusterTimes::default() }
    }
}

/// Why a server cannot be one of many.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Redis does not answer, or refuses.
    #[error(
        "Redis at {server} cannot be used: {error}. Check that it runs and that --rooms names it, \
         with its password if it has one."
    )]
    Unreachable {
        /// Host and port.
        server: String,
        /// What the system or Redis said.
        error: String,
    },
    /// The key given here is not the one the others have.
    #[error(
        "The other nodes have another key for resume tokens: give every node the same file, or \
         none of them any."
    )]
    OtherKey,
    /// What Redis holds under the key's name is no key.
    #[error(
        "Redis holds a key for resume tokens that is none: delete {0} there, and start every node \
         again."
    )]
    BadKey(String),
}

/// A place among the nodes of a cluster, not taken yet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cluster {
    store: Store,
    times: ClusterTimes,
    key: TokenKey,
    /// What to have in Redis: name and value.
    agreed: (&'static str, String),
}

/// Clients may come back later than that their seats are held, if their nodes were slow to end.
const LATE: Duration = Duration::from_secs(15);

/// The key itself.
const KEY: &str = "token-key";
/// A digest of a key that Redis does not hold.
const KEY_DIGEST: &str = "token-key-sha256";

impl Cluster {
    /// Connects to Redis and agrees with the other nodes on the key of resume tokens.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub async fn connect(options: ClusterOptions) -> Result<Self, ClusterError> {
        let ClusterOptions { url, prefix, secret, times } = options;
        let store = Store::connect(&url, &prefix).await?;
        let (name, wanted) = match &secret {
            Some(secret) => (KEY_DIGEST, digest(secret)),
            None => (KEY, hex(&rand::random::<[u8; TokenKey::LENGTH]>())),
        };
        let agreed = store.agree(name, &wanted).await.map_err(|error| {
            ClusterError::Unreachable { server: url.server(), error: error.to_string() }
        })?;
        let secret = match secret {
            Some(_) if agreed != wanted => return Err(ClusterError::OtherKey),
            Some(secret) => secret,
            None => {
                unhex(&agreed).ok_or_else(|| ClusterError::BadKey(format!("{prefix}:{name}")))?
            }
        };
        Ok(Self { store, times, key: TokenKey::new(&secret), agreed: (name, agreed) })
    }

    /// What seals resume tokens on every node.
    pub(crate) fn key(&self) -> TokenKey {
        self.key.clone()
    }

    /// Puts a router before `hub`, which holds seats for `hold`; its task is spawned on `tasks` and ends after the hub's. What
    /// comes back besides tells whether the other nodes can be reached.
    pub(crate) fn join(
        mut self,
        hub: Hub,
        hold: Duration,
        tasks: &mut JoinSet<()>,
    ) -> (Hub, watch::Receiver<bool>) {
        self.store.remember = 2 * hold + LATE;
        let (inbox, commands) = mpsc::channel(INBOX);
        let (hub, behind) = hub.behind(inbox);
        let (healthy_out, healthy) = watch::channel(false);
        tasks.spawn(Task::new(self, behind, healthy_out).run(commands));
        (hub, healthy)
    }

    /// Redis is back, and may have lost what it held.
    fn remind<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        done: impl FnOnce() -> T + Send + 'static,
    ) {
        let (store, (name, value)) = (self.store.clone(), self.agreed.clone());
        tasks.spawn(async move {
            if let Ok(agreed) = store.agree(name, &value).await
                && agreed != value
            {
                tracing::error!(
                    "other nodes have another key for resume tokens since Redis lost its data: \
                     restart this one"
                );
            }
            done()
        });
    }
}

fn digest(secret: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, secret).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_redis_is_checked_before_it_is_used() {
        let url: RedisUrl = "redis://:secret@tea.example:7000/3".parse().unwrap();
        assert_eq!(url.server(), "tea.example:7000");
        assert_eq!(format!("{url:?}"), "redis://tea.example:7000/3");
        assert_eq!("redis://[::1]".parse::<RedisUrl>().unwrap().server(), "[::1]:6379");
        for (text, error) in [
            ("", RedisUrlError::Malformed),
            ("redis", RedisUrlError::Malformed),
            ("redis://", RedisUrlError::Malformed),
            ("http://h", RedisUrlError::Malformed),
            ("redis://h?x=1", RedisUrlError::Malformed),
            ("rediss://h", RedisUrlError::Tls),
            ("redis://h/tea", RedisUrlError::Database),
            ("redis://h/1/2", RedisUrlError::Database),
        ] {
            assert_eq!(text.parse::<RedisUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_key_survives_being_written_down() {
        let secret: [u8; 32] = std::array::from_fn(|index| index as u8 * 7);
        assert_eq!(unhex(&hex(&secret)), Some(secret));
        for text in ["", "00", &"zz".repeat(32), &"é".repeat(32)] {
            assert_eq!(unhex::<32>(text), None);
        }
    }
}
