//! The fuzzer's checks of the TURN port with seeded chance, so that every run covers them.

use rand::{Rng, SeedableRng, rngs::StdRng};

#[path = "../fuzz/turn.rs"]
mod turn;

#[test]
fn any_bytes_on_the_turn_port_are_answered_or_dropped() {
    let mut rng = StdRng::seed_from_u64(0x7ea);
    for round in 0..5_000 {
        let mut data = vec![0; rng.random_range(0..600)];
        rng.fill(data.as_mut_slice());
        if round % 2 == 0 {
            // So that some of it is STUN.
            for piece in data.chunks_mut(48).filter(|piece| piece.len() >= 21) {
                piece[1] &= 0x01;
                piece[3] = 0;
                piece[4] &= 0x1C;
                piece[5..9].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
            }
        }
        turn::check(&data);
    }
}
