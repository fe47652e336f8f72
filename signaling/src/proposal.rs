//! Names for rooms that nobody guesses and everybody can read out: proquints
//! (D. Wilkerson, "A Proposal for Proquints", 2009): five letters for 16 bits, consonant and
//! vowel in turn. Four of them are 64 bits.

use rand::Rng;

const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aiou";

/// A fresh name such as `lusab-babad-gutih-tugad`.
pub fn room(random: &mut impl Rng) -> String {
    let words: Vec<String> = (0..4).map(|_| proquint(random.random())).collect();
    words.join("-")
}

fn proquint(bits: u16) -> String {
    let consonant = |shift: u16| char::from(CONSONANTS[usize::from(bits >> shift & 0xf)]);
    let vowel = |shift: u16| char::from(VOWELS[usize::from(bits >> shift & 0x3)]);
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn proquints_are_the_published_ones() {
        // 127.0.0.1 is lusab-babad there.
        assert_eq!((proquint(0x7f00), proquint(0x0001)), ("lusab".into(), "babad".into()));
    }

    #[test]
    fn every_bit_counts() {
        let all: std::collections::HashSet<String> = (0..=u16::MAX).map(proquint).collect();
        assert_eq!(all.len(), 65_536);
    }

    #[test]
    fn a_proposal_is_a_valid_room_name() {
        let name = room(&mut StdRng::seed_from_u64(3));
        assert_eq!(name.len(), 23);
        let room = crate::protocol::RoomName::parse(&name).expect("valid");
        assert_eq!(room.as_str(), name);
    }
}
