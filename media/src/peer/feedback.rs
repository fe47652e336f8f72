//! What the receiving pipeline has to say to the other end, on its way to RTCP.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::raw_packet::RawPacket;
use tokio::sync::Notify;

use crate::rtp::app_message::PictureFeedback;

/// More than this waits only while nothing can be sent: the oldest is dropped then.
const MOST: usize = 16;

/// From the pipeline's thread to the runtime.
#[derive(Default)]
pub(super) struct FeedbackQueue {
    waiting: Mutex<VecDeque<PictureFeedback>>,
    notify: Notify,
}

impl FeedbackQueue {
    /// Takes feedback; never blocks for long.
    pub(super) fn push(&self, feedback: PictureFeedback) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MOST {
            waiting.pop_front();
        }
        waiting.push_back(feedback);
        drop(waiting);
        self.notify.notify_one();
    }

    /// The oldest feedback. Nothing is lost if the wait is given up.
    pub(super) async fn next(&self) -> PictureFeedback {
        loop {
            if let Some(feedback) = self.pop() {
                return feedback;
            }
            self.notify.notified().await;
        }
    }

    fn pop(&self) -> Option<PictureFeedback> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// The RTCP packet that says it about the stream `media_ssrc`.
pub(super) fn packet(
    feedback: PictureFeedback,
    sender_ssrc: u32,
    media_ssrc: u32,
) -> Box<dyn rtc::rtcp::Packet> {
    match feedback.to_message(media_ssrc) {
        None => Box::new(PictureLossIndication { sender_ssrc, media_ssrc }),
        Some(message) => Box::new(RawPacket(message.to_bytes(sender_ssrc).into())),
    }
}
