//! One connection with its pipelines: wiring, and the order of start and stop. No policy.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::local::LocalMedia;
use crate::peer::{Candidate, Ice, IceServer, Inlets, Peer, PeerError, PeerEvent};
use crate::pipeline::audio_receive::AudioInlet;
use crate::pipeline::video_receive::{self, PictureSink, VideoReceiver};
use crate::pipeline::video_send::{PauseHook, VideoSender};
use crate::stats::Counters;

/// A connection to one other person, with media.
pub struct Session {
    peer: Arc<Peer>,
    local: Arc<LocalMedia>,
    counters: Arc<Counters>,
    events: mpsc::UnboundedSender<PeerEvent>,
    audio_inlet: Arc<AudioInlet>,
    video_receiver: VideoReceiver,
    video_sender: Mutex<Option<VideoSender>>,
    sending: AtomicBool,
}

impl Session {
    /// Makes the connection and starts receiving into `pictures` and the local speaker. Nothing
    /// is sent before [`Session::start_sending`].
    ///
    /// # Errors
    /// As [`Peer::new`].
    pub async fn new(
        ice: Ice,
        local: Arc<LocalMedia>,
        pictures: PictureSink,
        events: mpsc::UnboundedSender<PeerEvent>,
    ) -> Result<Self, PeerError> {
        let counters = Arc::new(Counters::new());
        let (video_inlet, video_parts) = video_receive::channel();
        let audio_inlet = Arc::new(AudioInlet::new(Arc::clone(&counters)));
        let audio = Arc::clone(&audio_inlet);
        let inlets = Inlets {
            video: Box::new(move |now, codec, packet| video_inlet.push(now, codec, packet)),
            audio: Box::new(move |now, packet, red| audio.push(now, packet, red)),
        };
        let peer = Arc::new(Peer::new(ice, inlets, Arc::clone(&counters), events.clone()).await?);
        let video_receiver = VideoReceiver::start(
            video_parts,
            pictures,
            peer.picture_feedback(),
            Arc::clone(&counters),
            Arc::clone(local.log()),
        );
        local.out().connect(Some(Arc::clone(&audio_inlet)));
        Ok(Self {
            peer,
            local,
            counters,
            events,
            audio_inlet,
            video_receiver,
            video_sender: Mutex::default(),
            sending: AtomicBool::new(false),
        })
    }

    /// Starts sending sound and pictures; when connected, since the first key frame would be
    /// lost before. Doing it again changes nothing.
    pub async fn start_sending(&self) {
        // A second outlet would number its packets anew, which SRTP takes for a replay.
        if self.sending.swap(true, Relaxed) {
            return;
        }
        let outlets = self.peer.outlets().await;
        if let Some(outlet) = outlets.audio {
            let counters = Arc::clone(&self.counters);
            self.local.feed().connect(outlet, outlets.red, outlets.stereo, counters);
        }
        if let Some(outlet) = outlets.video {
            let events = self.events.clone();
            let paused: PauseHook = Box::new(move |paused| {
                // Nobody listens any more once the call is over.
                let _ = events.send(PeerEvent::PicturesPaused(paused));
            });
            *self.sender() = Some(VideoSender::start(
                Arc::clone(self.local.outgoing()),
                outlet,
                paused,
                Arc::clone(&self.counters),
                Arc::clone(self.local.log()),
            ));
        }
    }

    fn sender(&self) -> std::sync::MutexGuard<'_, Option<VideoSender>> {
        self.video_sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_stereo(&self) {
        self.peer.set_sends_stereo(self.local.processing().stereo);
    }

    /// Makes and applies an offer.
    ///
    /// # Errors
    /// As [`Peer::offer`].
    pub async fn offer(&self) -> Result<String, PeerError> {
        self.tell_stereo();
        self.peer.offer().await
    }

    /// Makes and applies an offer of a new path.
    ///
    /// # Errors
    /// As [`Peer::restart`].
    pub async fn restart(&self) -> Result<String, PeerError> {
        self.tell_stereo();
        self.peer.restart().await
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// As [`Peer::answer`].
    pub async fn answer(&self, offer: &str) -> Result<String, PeerError> {
        self.tell_stereo();
        self.peer.answer(offer).await
    }

    /// Applies an answer.
    ///
    /// # Errors
    /// As [`Peer::accept_answer`].
    pub async fn accept_answer(&self, answer: &str) -> Result<(), PeerError> {
        self.peer.accept_answer(answer).await
    }

    /// Takes an unanswered offer back.
    ///
    /// # Errors
    /// As [`Peer::rollback`].
    pub async fn rollback(&self) -> Result<(), PeerError> {
        self.peer.rollback().await
    }

    /// Adds a candidate of the other end.
    ///
    /// # Errors
    /// As [`Peer::add_candidate`].
    pub async fn add_candidate(&self, candidate: Candidate) -> Result<(), PeerError> {
        self.peer.add_candidate(candidate).await
    }

    /// Uses these STUN and TURN servers from now on.
    ///
    /// # Errors
    /// As [`Peer::set_ice_servers`].
    pub async fn set_ice_servers(&self, servers: Vec<IceServer>) -> Result<(), PeerError> {
        self.peer.set_ice_servers(servers).await
    }

    /// What this connection counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The connection, for questions that take time to answer.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Whether the other end says its camera is on.
    pub fn set_peer_sends_video(&self, sends: bool) {
        self.video_receiver.set_peer_sends(sends);
    }

    /// Stops the media and closes the connection in the background. Must run on the runtime.
    pub fn close(self) {
        let peer = Arc::clone(&self.peer);
        drop(self);
        tokio::spawn(async move { peer.close().await });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.local.feed().disconnect(&self.counters);
        self.local.out().disconnect(&self.audio_inlet);
    }
}
