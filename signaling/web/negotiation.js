// What two ends say to each other inside `message`, and who offers when. No DOM, no network: it speaks
// through `io` and drives anything shaped like an RTCPeerConnection.
//
// The initiator (the one that was first in the room) offers once, at the first `hello` or 'got user media'
// of the other, after its own sources are settled; later offers follow the perfect-negotiation pattern
// with the initiator as the impolite one.

/** More candidates than any honest end gathers before its description arrives. */
const MOST_QUEUED = 200;

export class Negotiation {
  #io;
  #newCall;
  #settled = false;
  #met = false;
  #initiator = false;
  #peerSpoke = false;
  #peerIsOurs = false;
  #peer = null;
  #queued = [];
  #epoch = 0;
  #work = Promise.resolve();

  /**
   * `io`: `send(message)`, `hello()` and `state()` give our own messages, `makePeer(offering)` a fresh
   * connection, `prepareAnswer(pc)` readies the offerer's transceivers, `dropPeer(pc)` closes one;
   * told: `onHello`, `onState`, `onPictures`, `onBye`, `onAnswered` (an offer of the other), `onFault(error)`.
   */
  constructor(io, newCall = randomCall) {
    this.#io = io;
    this.#newCall = newCall;
  }

  get initiator() {
    return this.#initiator;
  }

  get peerIsOurs() {
    return this.#peerIsOurs;
  }

  /** A new other end: whatever was before is over. */
  meet(initiator) {
    this.part();
    this.#initiator = initiator;
    this.#met = true;
    this.#io.send(this.#io.hello());
    this.#io.send(this.#io.state());
    if (this.#settled) this.#io.send('got user media');
  }

  /** The other end is gone. */
  part() {
    this.#epoch += 1;
    this.#met = false;
    this.#peerSpoke = false;
    this.#peerIsOurs = false;
    this.#queued = [];
    this.#close();
  }

  /** Our camera and microphone are there, or known to be absent. */
  settle() {
    if (this.#settled) return;
    this.#settled = true;
    if (this.#met) this.#io.send('got user media');
    this.#offerFirst();
  }

  /** One message of the other end; they are taken strictly one after the other. */
  receive(message) {
    // What waits here for an end that is gone by its turn must not be taken for the next one's.
    const epoch = this.#epoch;
    this.#work = this.#work
      .then(() => (epoch === this.#epoch ? this.#take(message) : undefined))
      .catch((error) => {
        if (epoch === this.#epoch) this.#io.onFault(error);
      });
    return this.#work;
  }

  async #take(message) {
    if (message === 'got user media') {
      this.#heard();
    } else if (message === 'bye') {
      this.part();
      this.#io.onBye();
    } else if (message !== null && typeof message === 'object') {
      switch (message.type) {
        case 'hello':
          this.#peerIsOurs = true;
          this.#io.onHello(message);
          this.#heard();
          break;
        case 'state':
          this.#io.onState(message);
          break;
        case 'pictures':
          this.#io.onPictures(message);
          break;
        case 'offer':
        case 'answer':
          if (typeof message.sdp === 'string') await this.#describe(message);
          break;
        case 'candidate':
          if (typeof message.candidate === 'string') await this.#candidate(message);
          break;
      }
    }
  }

  #heard() {
    this.#peerSpoke = true;
    this.#offerFirst();
  }

  #offerFirst() {
    if (!this.#initiator || !this.#met || !this.#settled || !this.#peerSpoke || this.#peer) return;
    // The tutorial's shapes for whoever does not say `hello`.
    this.#offer(this.#open(this.#peerIsOurs ? this.#newCall() : undefined, true));
  }

  /** A fresh connection in the same call, after the one before died; only the initiator may begin one. */
  beginAnew() {
    if (!this.#initiator || !this.#peerIsOurs) return;
    this.#queued = [];
    this.#close();
    this.#offerFirst();
  }

  #open(call, offering) {
    this.#close();
    const peer = { call, makingOffer: false, ignoring: false, described: false, pc: this.#io.makePeer(offering) };
    this.#peer = peer;
    peer.pc.onicecandidate = ({ candidate }) => {
      if (peer !== this.#peer || !candidate?.candidate) return;
      this.#io.send(stamped(peer, {
        type: 'candidate',
        label: candidate.sdpMLineIndex,
        id: candidate.sdpMid,
        candidate: candidate.candidate,
      }));
    };
    peer.pc.onnegotiationneeded = () => {
      // The first description is our rule's to send, and the tutorial's page cannot take a second one.
      if (!peer.described || !this.#peerIsOurs || peer.makingOffer || peer.pc.signalingState !== 'stable') return;
      this.#offer(peer);
    };
    return peer;
  }

  #close() {
    const peer = this.#peer;
    this.#peer = null;
    if (!peer) return;
    peer.pc.onicecandidate = null;
    peer.pc.onnegotiationneeded = null;
    this.#io.dropPeer(peer.pc);
  }

  async #offer(peer) {
    peer.makingOffer = true;
    try {
      await peer.pc.setLocalDescription();
      if (peer === this.#peer && peer.pc.localDescription.type === 'offer') this.#sendDescription(peer);
    } catch (error) {
      if (peer === this.#peer) this.#io.onFault(error);
    } finally {
      peer.makingOffer = false;
    }
  }

  #sendDescription(peer) {
    const { type, sdp } = peer.pc.localDescription;
    this.#io.send(stamped(peer, { type, sdp }));
  }

  async #describe(message) {
    const offer = message.type === 'offer';
    let peer = this.#peer;
    if (!peer || foreign(peer, message)) {
      // Only the initiator may begin a call, or begin it anew; all else belongs to one that is over.
      if (!offer || this.#initiator) return;
      peer = this.#open(message.call, false);
    }
    const { pc } = peer;
    if (!offer && pc.signalingState !== 'have-local-offer') return;
    const glare = offer && (peer.makingOffer || pc.signalingState !== 'stable');
    peer.ignoring = glare && this.#initiator;
    if (peer.ignoring) return;

    await pc.setRemoteDescription({ type: message.type, sdp: message.sdp });
    if (peer !== this.#peer) return;
    peer.described = true;
    await this.#addQueued(peer);
    if (!offer || peer !== this.#peer) return;
    await this.#io.prepareAnswer(pc);
    await pc.setLocalDescription();
    if (peer !== this.#peer) return;
    this.#sendDescription(peer);
    this.#io.onAnswered?.();
  }

  async #candidate(message) {
    const peer = this.#peer;
    if (peer && foreign(peer, message)) return;
    if (!peer?.described) {
      if (this.#queued.length < MOST_QUEUED) this.#queued.push(message);
      return;
    }
    await this.#add(peer, message);
  }

  async #addQueued(peer) {
    const queued = this.#queued;
    this.#queued = [];
    for (const message of queued) {
      if (!foreign(peer, message)) await this.#add(peer, message);
    }
  }

  async #add(peer, { label, id, candidate }) {
    const init = { candidate, sdpMLineIndex: Number.isInteger(label) ? label : 0 };
    if (typeof id === 'string' && id !== '') init.sdpMid = id;
    try {
      await peer.pc.addIceCandidate(init);
    } catch (error) {
      // A candidate of an offer we ignored has nothing to be added to.
      if (!peer.ignoring && peer === this.#peer) this.#io.onFault(error);
    }
  }
}

/** Ours mark what they send with the connection it belongs to; the tutorial's page sends no mark. */
function stamped(peer, message) {
  return peer.call === undefined ? message : { ...message, call: peer.call };
}

function foreign(peer, message) {
  return message.call !== undefined && message.call !== peer.call;
}

function randomCall() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
