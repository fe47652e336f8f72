//! Two connections over loopback look for a new path: by either end, and by both at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use visavis_media::peer::{Ice, Inlets, Peer, PeerEvent};
use visavis_media::stats::Counters;

const LIMIT: Duration = Duration::from_secs(60);

struct End {
    peer: Peer,
    events: mpsc::UnboundedReceiver<PeerEvent>,
}

impl End {
    async fn new() -> Self {
        let inlets = Inlets { video: Box::new(|_, _, _| {}), audio: Box::new(|_, _, _| {}) };
        let (sender, events) = mpsc::unbounded_channel();
        let peer = Peer::new(Ice::default(), inlets, Arc::new(Counters::new()), sender).await;
        Self { peer: peer.expect("a connection"), events }
    }
}

/// Carries candidates between the two until both say that they are connected.
async fn connect(a: &mut End, b: &mut End) {
    let (mut a_up, mut b_up) = (false, false);
    let connecting = async {
        while !(a_up && b_up) {
            let (event, up, other) = tokio::select! {
                event = a.events.recv() => (event, &mut a_up, &b.peer),
                event = b.events.recv() => (event, &mut b_up, &a.peer),
            };
            match event.expect("a living connection") {
                PeerEvent::Candidate(candidate) => {
                    // One of the generation before fits nothing any more.
                    let _ = other.add_candidate(candidate).await;
                }
                PeerEvent::Connected => *up = true,
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, connecting).await.expect("connected in time");
}

fn fragment(sdp: &str) -> &str {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("a fragment")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_end_finds_a_new_path_and_so_do_both_at_once() {
    let (mut a, mut b) = (End::new().await, End::new().await);
    let first = a.peer.offer().await.expect("an offer");
    assert!(first.contains("a=candidate:"), "the offer tells this machine's addresses: {first}");
    let answer = b.peer.answer(&first).await.expect("an answer");
    assert!(answer.contains("a=candidate:"), "so does the answer: {answer}");
    a.peer.accept_answer(&answer).await.expect("accepted");
    connect(&mut a, &mut b).await;

    let offer = a.peer.restart().await.expect("an offer");
    assert_ne!(fragment(&offer), fragment(&first));
    assert!(offer.contains("a=candidate:"), "{offer}");
    let answer = b.peer.answer(&offer).await.expect("an answer");
    a.peer.accept_answer(&answer).await.expect("accepted");
    connect(&mut a, &mut b).await;

    let offer = b.peer.restart().await.expect("the one that answered may ask too");
    let answer = a.peer.answer(&offer).await.expect("an answer");
    b.peer.accept_answer(&answer).await.expect("accepted");
    connect(&mut a, &mut b).await;

    // Both ask: one of them takes it back.
    let offer = a.peer.restart().await.expect("an offer");
    b.peer.restart().await.expect("another offer");
    b.peer.rollback().await.expect("taken back");
    let answer = b.peer.answer(&offer).await.expect("an answer");
    a.peer.accept_answer(&answer).await.expect("accepted");
    connect(&mut a, &mut b).await;
    assert!(a.peer.selected_pair().await.is_some_and(|pair| pair.base.is_some()));
    a.peer.close().await;
    b.peer.close().await;
}
