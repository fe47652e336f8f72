//! What reads a peer's bytes, straight from its sources, and the checks of it: so the fuzzers build
//! without the C libraries of the rest.

#![allow(dead_code)] // what only the rest uses

#[path = "../checks/mod.rs"]
pub mod checks;

#[path = "../../src"]
mod media {
    pub mod adapt;
    pub mod annexb;
    pub mod congestion;
    pub mod frame;
    pub mod stats;
    pub mod sync;
    pub mod units;
    pub mod video_codec;

    pub mod codec {
        pub mod h264 {
            pub(crate) mod sps;
        }
        pub mod vp8 {
            pub(crate) mod header;
        }
    }

    pub mod rtp;

    pub mod sound {
        pub mod jitter;
    }
}
pub use media::{
    adapt, annexb, codec, congestion, frame, rtp, sound, stats, sync, units, video_codec,
};

#[path = "../../src/peer"]
pub mod peer {
    mod audio_loss;
    mod cookie;
    mod fec;
    mod flow;
    mod formats;
    #[path = "../../fuzz/checks/peer/mod.rs"]
    pub mod fuzz;
    mod interceptors;
    mod offer;
    mod overflow;
    mod playout_delay;
    mod sync_tap;
    mod twcc;

    mod sockets {
        pub(super) mod checks;
        pub(super) mod hello;

        pub(super) use hello::Cookie;
    }

    mod turn_bridge {
        pub(super) mod frame;
    }

    fn now() -> std::time::Instant {
        std::time::Instant::now()
    }
}
