//! A call over an emulated path, packet by packet in fake time: the real sending side, a model of
//! encoder, path, receiver and cross traffic. Seeded: the same seed gives the same run.

pub(super) mod call;
pub(super) mod path;
mod profiles;
pub(super) mod receiver;
pub(super) mod scenario;
mod score;
mod tcp;
