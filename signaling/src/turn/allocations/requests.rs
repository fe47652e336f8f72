//! The requests that need credentials, each to its answer.

use std::{collections::HashMap, time::Duration};

use super::{
    Action, Allocation, Allocations, Client, NoRelay, Now, OpenRelay, RelayId,
    allocation::{Channels, NoChannel},
    unknown_attributes,
};
use crate::turn::{
    credentials::split,
    quota::{Bucket, OverQuota},
    stats::count,
    stun::{Builder, Class, Message, Method, attribute, long_term_key},
};

/// RFC 8656 section 3.2: ten minutes, unless asked otherwise.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);

/// UDP's number in REQUESTED-TRANSPORT.
const UDP: u8 = 17;

/// Who asks, proven.
struct User {
    name: String,
    key: [u8; 16],
}

/// An error answer: code and phrase.
struct Refusal(u16, &'static str);

const BAD_REQUEST: Refusal = Refusal(400, "Bad Request");
const FORBIDDEN: Refusal = Refusal(403, "Forbidden");
const MISMATCH: Refusal = Refusal(437, "Allocation Mismatch");
const WRONG_CREDENTIALS: Refusal = Refusal(441, "Wrong Credentials");
const OTHER_FAMILY: Refusal = Refusal(443, "Peer Address Family Mismatch");
const CAPACITY: Refusal = Refusal(508, "Insufficient Capacity");

impl Allocations {
    pub(super) fn request(
        &mut self,
        client: Client,
        message: &Message,
        now: Now,
        relays: &mut impl OpenRelay,
    ) -> Vec<Action> {
        let user = match self.authenticate(client, message, now) {
            Ok(user) => user,
            Err(answer) => return vec![Action::ToClient(client, answer.finish())],
        };
        let unknown = message.not_understood(&[
            attribute::USERNAME,
            attribute::MESSAGE_INTEGRITY,
            attribute::MESSAGE_INTEGRITY_SHA256,
            attribute::REALM,
            attribute::NONCE,
            attribute::CHANNEL_NUMBER,
            attribute::LIFETIME,
            attribute::XOR_PEER_ADDRESS,
            attribute::REQUESTED_TRANSPORT,
            attribute::REQUESTED_ADDRESS_FAMILY,
            // Linux never fragments UDP of its own where the path's limit is known.
            attribute::DONT_FRAGMENT,
        ]);
        let mut closed = None;
        let answer = if unknown.is_empty() {
            let outcome = match message.method {
                Method::Allocate => self.allocate(client, message, &user, now, relays),
                Method::Refresh => self.refresh(client, message, &user, now, &mut closed),
                Method::CreatePermission => self.create_permission(client, message, &user, now),
                Method::ChannelBind => self.channel_bind(client, message, &user, now),
                _ => Err(BAD_REQUEST),
            };
            match outcome {
                Ok(Answer::Fresh(answer)) => answer,
                Ok(Answer::Again(bytes)) => return vec![Action::ToClient(client, bytes)],
                Err(Refusal(code, reason)) => {
                    Builder::new(message.method, Class::Error, message.transaction)
                        .error(code, reason)
                }
            }
        } else {
            unknown_attributes(message, &unknown)
        };
        let bytes = answer.integrity(&user.key).fingerprint().finish();
        if message.method == Method::Allocate
            && let Some(relay) = self.clients.get(&client)
            && let Some(allocation) = self.allocations.get_mut(relay)
            && allocation.transaction == message.transaction
        {
            allocation.answer.clone_from(&bytes);
        }
        [Some(Action::ToClient(client, bytes)), closed].into_iter().flatten().collect()
    }

    /// RFC 8489 section 9.2.4, with usernames that carry their expiry.
    fn authenticate(&self, client: Client, message: &Message, now: Now) -> Result<User, Builder> {
        let refuse = |code, reason| {
            Builder::new(message.method, Class::Error, message.transaction).error(code, reason)
        };
        let challenge = |code, reason| {
            let nonce = self.authority.nonce(client.remote.ip(), now.wall);
            refuse(code, reason)
                .attribute(attribute::REALM, self.realm.as_bytes())
                .attribute(attribute::NONCE, nonce.as_bytes())
        };
        if message.get(attribute::MESSAGE_INTEGRITY).is_none() {
            return Err(challenge(401, "Unauthenticated"));
        }
        let (Some(username), Some(nonce)) =
            (message.text(attribute::USERNAME), message.get(attribute::NONCE))
        else {
            return Err(refuse(BAD_REQUEST.0, BAD_REQUEST.1));
        };
        let password = self.authority.password(username);
        let key = long_term_key(username, &self.realm, &password);
        let Some((expiry, name)) = split(username).filter(|_| message.is_authentic(&key)) else {
            count(&self.stats.refused_forged);
            return Err(challenge(401, "Unauthenticated"));
        };
        // What was allocated in time lives on: a browser goes on with the credentials it began
        // with until it gathers anew.
        let owns = self.clients.get(&client).and_then(|relay| self.allocations.get(relay));
        if expiry <= now.wall && owns.is_none_or(|allocation| allocation.user != name) {
            count(&self.stats.refused_expired);
            return Err(challenge(401, "Credentials Expired"));
        }
        if !self.authority.knows_nonce(nonce, client.remote.ip(), now.wall) {
            return Err(challenge(438, "Stale Nonce"));
        }
        Ok(User { name: name.to_owned(), key })
    }

    fn allocate(
        &mut self,
        client: Client,
        message: &Message,
        user: &User,
        now: Now,
        relays: &mut impl OpenRelay,
    ) -> Result<Answer, Refusal> {
        if let Some(allocation) =
            self.clients.get(&client).and_then(|relay| self.allocations.get(relay))
        {
            // A repeated request: its answer was lost.
            let again = allocation.transaction == message.transaction;
            return if again {
                Ok(Answer::Again(allocation.answer.clone()))
            } else {
                Err(MISMATCH)
            };
        }
        match message.get(attribute::REQUESTED_TRANSPORT) {
            Some(&[UDP, _, _, _]) => {}
            Some(_) => return Err(Refusal(442, "Unsupported Transport Protocol")),
            None => return Err(BAD_REQUEST),
        }
        let family = message.get(attribute::REQUESTED_ADDRESS_FAMILY).map(<[u8]>::first);
        let ipv6 = match family {
            None | Some(Some(1)) => false,
            Some(Some(2)) => true,
            Some(_) => return Err(Refusal(440, "Address Family not Supported")),
        };
        let address = client.remote.ip();
        self.quota.take(&user.name, address, &self.limits).map_err(|over| match over {
            OverQuota::User => {
                count(&self.stats.refused_user_quota);
                Refusal(486, "Allocation Quota Reached")
            }
            OverQuota::Address => {
                count(&self.stats.refused_address_quota);
                Refusal(486, "Allocation Quota Reached")
            }
            OverQuota::Total => {
                count(&self.stats.refused_capacity);
                CAPACITY
            }
        })?;
        self.last_id += 1;
        let id = RelayId(self.last_id);
        let relayed = relays.open(id, &client, ipv6).map_err(|error| {
            self.quota.give_back(&user.name, address);
            match error {
                NoRelay::Family => Refusal(440, "Address Family not Supported"),
                NoRelay::Capacity => {
                    count(&self.stats.refused_capacity);
                    CAPACITY
                }
            }
        })?;
        let lifetime = self.lifetime(message, Duration::ZERO);
        let expires = now.instant + lifetime;
        let bucket = self.limits.bytes_per_second.map(|rate| Bucket::new(rate, now.instant));
        let allocation = Allocation {
            client,
            user: user.name.clone(),
            relayed,
            made: now.instant,
            expires,
            transaction: message.transaction,
            answer: Vec::new(),
            to_peers: bucket,
            to_client: bucket,
            permissions: HashMap::new(),
            channels: Channels::default(),
        };
        self.allocations.insert(id, allocation);
        self.clients.insert(client, id);
        self.expiries.insert((expires, id));
        for address in [relayed.bound, relayed.told] {
            self.relayed.insert(address, id);
        }
        count(&self.stats.allocations_made);
        let total = self.quota.total() as u64;
        self.stats.allocations.store(total, std::sync::atomic::Ordering::Relaxed);
        Ok(Answer::Fresh(
            success(message)
                .xor_address(attribute::XOR_RELAYED_ADDRESS, relayed.told)
                .attribute(attribute::LIFETIME, &seconds(lifetime))
                .xor_address(attribute::XOR_MAPPED_ADDRESS, client.remote),
        ))
    }

    fn refresh(
        &mut self,
        client: Client,
        message: &Message,
        user: &User,
        now: Now,
        closed: &mut Option<Action>,
    ) -> Result<Answer, Refusal> {
        let (id, allocation) = self.own(client, user)?;
        let (made, expired) = (allocation.made, allocation.expires);
        let family = if allocation.relayed.told.is_ipv6() { 2 } else { 1 };
        if message
            .get(attribute::REQUESTED_ADDRESS_FAMILY)
            .is_some_and(|f| f.first() != Some(&family))
        {
            return Err(OTHER_FAMILY);
        }
        let age = now.instant.saturating_duration_since(made);
        let lifetime = match message.number(attribute::LIFETIME) {
            Some(0) => Duration::ZERO,
            _ => self.lifetime(message, age),
        };
        if lifetime.is_zero() {
            *closed = self.remove(id);
        } else {
            let expires = now.instant + lifetime;
            self.expiries.remove(&(expired, id));
            self.expiries.insert((expires, id));
            if let Some(allocation) = self.allocations.get_mut(&id) {
                allocation.expires = expires;
            }
        }
        Ok(Answer::Fresh(success(message).attribute(attribute::LIFETIME, &seconds(lifetime))))
    }

    fn create_permission(
        &mut self,
        client: Client,
        message: &Message,
        user: &User,
        now: Now,
    ) -> Result<Answer, Refusal> {
        let peers: Option<Vec<_>> = message.xor_addresses(attribute::XOR_PEER_ADDRESS).collect();
        let peers = peers.filter(|peers| !peers.is_empty()).ok_or(BAD_REQUEST)?;
        let (id, _) = self.own(client, user)?;
        // All or none (RFC 8656 section 10.2).
        for peer in &peers {
            self.check_peer(id, *peer)?;
        }
        let allocation = self.allocations.get_mut(&id).ok_or(MISMATCH)?;
        for peer in peers {
            allocation.permit(peer.ip(), now.instant).map_err(|_| CAPACITY)?;
        }
        Ok(Answer::Fresh(success(message)))
    }

    fn channel_bind(
        &mut self,
        client: Client,
        message: &Message,
        user: &User,
        now: Now,
    ) -> Result<Answer, Refusal> {
        let mut peers = message.xor_addresses(attribute::XOR_PEER_ADDRESS);
        let (Some(Some(peer)), Some(number)) =
            (peers.next(), message.number(attribute::CHANNEL_NUMBER))
        else {
            return Err(BAD_REQUEST);
        };
        let channel = (number >> 16) as u16;
        if !(0x4000..=0x4FFF).contains(&channel) {
            return Err(BAD_REQUEST);
        }
        let (id, _) = self.own(client, user)?;
        self.check_peer(id, peer)?;
        let allocation = self.allocations.get_mut(&id).ok_or(MISMATCH)?;
        allocation.channels.bind(channel, peer, now.instant).map_err(|error| match error {
            NoChannel::Taken => BAD_REQUEST,
            NoChannel::Full => CAPACITY,
        })?;
        allocation.permit(peer.ip(), now.instant).map_err(|_| CAPACITY)?;
        Ok(Answer::Fresh(success(message)))
    }

    /// The client's allocation, if it is this user's. A renewed credential of the same user is
    /// as good as the first.
    fn own(&self, client: Client, user: &User) -> Result<(RelayId, &Allocation), Refusal> {
        let id = *self.clients.get(&client).ok_or(MISMATCH)?;
        let allocation = self.allocations.get(&id).ok_or(MISMATCH)?;
        if allocation.user == user.name { Ok((id, allocation)) } else { Err(WRONG_CREDENTIALS) }
    }

    fn check_peer(&self, id: RelayId, peer: std::net::SocketAddr) -> Result<(), Refusal> {
        let allocation = self.allocations.get(&id).ok_or(MISMATCH)?;
        if allocation.relayed.told.is_ipv6() != peer.is_ipv6() {
            return Err(OTHER_FAMILY);
        }
        if self.relayed.contains_key(&peer) || self.filter.permits(peer.ip()) {
            return Ok(());
        }
        count(&self.stats.refused_peers);
        Err(FORBIDDEN)
    }

    /// The life to grant: at least the default, at most what the limits leave.
    fn lifetime(&self, message: &Message, age: Duration) -> Duration {
        let asked = message.number(attribute::LIFETIME).map(u64::from).map(Duration::from_secs);
        asked
            .map_or(DEFAULT_LIFETIME, |asked| asked.max(DEFAULT_LIFETIME))
            .min(self.limits.lifetime)
            .min(self.limits.age.saturating_sub(age))
    }
}

enum Answer {
    Fresh(Builder),
    Again(Vec<u8>),
}

fn success(message: &Message) -> Builder {
    Builder::new(message.method, Class::Success, message.transaction)
}

fn seconds(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}
