//! Rooms that move from one node to another.

use super::Registry;
use crate::{moment::Moment, protocol::RoomName};

impl Registry {
    /// The room `name` came here from another node, which may be gone: for as long as seats are
    /// held, it is set up again from the tokens that node made, as all rooms are after a start.
    pub fn recover(&mut self, name: RoomName, now: Moment) {
        self.recovering.retain(|_, until| now.instant < *until);
        self.recovering.insert(name, now.instant + self.hold);
    }

    pub(super) fn is_recovering(&self, name: &RoomName, now: Moment) -> bool {
        self.recovering.get(name).is_some_and(|until| now.instant < *until)
    }

    /// The room `name` goes to another node: nobody is told, and its connections stay, without a
    /// seat.
    pub fn hand_over(&mut self, name: &RoomName, now: Moment) {
        self.recovering.remove(name);
        for connection in self.dissolve(name) {
            self.stand(connection, now);
        }
    }

    /// The rooms there are.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.rooms.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::carrier::CarrierKind;

    fn registry(seed: u8) -> Registry {
        let key = Some(TokenKey::new(&[7; TokenKey::LENGTH]));
        Registry::with(RoomOptions { key, ..RoomOptions::default() }, [seed; 32])
    }

    fn join(
        registry: &mut Registry,
        who: u64,
        resume: Option<String>,
        now: Moment,
    ) -> Vec<ServerEvent> {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let guest = Guest { address, carrier: CarrierKind::WebSocket };
        registry.handle_open(ConnectionId(who), guest, now);
        let room = RoomName::parse("tea").unwrap();
        let event = ClientEvent::CreateOrJoin { room, resume, last_seq: None };
        let deliveries = registry.handle_event(ConnectionId(who), event, now);
        let events = deliveries.into_iter().map(|delivery| match delivery {
            Delivery::Event { event, .. } => event,
            Delivery::Close { .. } => panic!("{delivery:?}"),
        });
        events.collect()
    }

    fn token(events: &[ServerEvent]) -> String {
        match &events[0] {
            ServerEvent::Created { resume: Some(token), .. }
            | ServerEvent::Resumed { resume: token, .. } => token.clone(),
            other => panic!("no token in {other:?}"),
        }
    }

    #[test]
    fn a_room_that_came_from_another_node_is_set_up_from_tokens_for_a_while() {
        let now = Moment::now();
        let tea = RoomName::parse("tea").unwrap();
        let first = token(&join(&mut registry(1), 1, None, now));
        let mut other = registry(2);
        other.recover(tea.clone(), now);
        let late = now + HOLD;
        assert!(matches!(
            join(&mut registry(3), 1, Some(first.clone()), now)[..],
            [ServerEvent::Created { .. }]
        ));
        let second = token(&join(&mut other, 1, Some(first.clone()), now));
        // And back to where it began, whose own tokens are good again.
        let mut back = registry(1);
        back.recover(tea.clone(), now);
        assert!(matches!(join(&mut back, 1, Some(second), now)[..], [ServerEvent::Resumed { .. }]));
        back.hand_over(&tea, now);
        assert_eq!(back.counts().rooms, 0);
        assert_eq!(back.counts().connections, 1);
        back.recover(tea, now);
        assert!(matches!(join(&mut back, 2, Some(first), late)[..], [ServerEvent::Created { .. }]));
        assert_eq!(back.rooms().count(), 1);
    }
}
