// One stay in a room: joins the room's events, the negotiation and the connection into a state a person
// understands. Fires `change`; never touches the document.

import { Signaling } from '/signaling.js';
import { Negotiation } from '/negotiation.js';
import { Path } from '/path.js';
import { applyTracks, figures, makePeer, prepareAnswer, usable } from '/peer.js';

/** Someone given up, who still has the other seat, is greeted this often. */
const HAIL_MS = 20_000;
const LONGEST_NAME = 64;

export class Call extends EventTarget {
  /** joining, waiting, connecting, connected, reconnecting, full, left, lost, ended, replaced, error */
  state = 'joining';
  detail = '';
  fault = '';
  lineUp = true;
  /** Whether, the room being full, the seat is asked for again by itself. */
  knocking = false;
  peerName = '';
  peerMedia = { audio: true, video: true };
  /** The other end's link is too narrow for pictures just now. */
  peerPaused = false;
  remote = new MediaStream();
  connectedAt = 0;
  readyAt = 0;
  connectMs = null;
  #room;
  #name;
  #sources;
  #signaling;
  #negotiation;
  #pc = null;
  #peerId = null;
  #iceServers = [];
  #path = new Path(false);
  #pathTimer = 0;
  /** We have a seat, and the line that keeps it. */
  #seated = false;
  /** Someone who was given up and still has the other seat: their id, and our role. */
  #absent = null;
  #hailTimer = 0;
  #knockTimer = 0;
  #told = '';

  constructor(url, room, name, sources) {
    super();
    this.#room = room;
    this.#name = name;
    this.#sources = sources;
    this.#signaling = new Signaling(url, room, {
      greeting: () => this.#hello(),
      onEvent: (event) => this.#server(event),
      onLine: (up) => {
        this.lineUp = up;
        if (!up) this.#seated = false;
        this.#changed();
      },
    });
    this.#negotiation = new Negotiation({
      send: (message) => this.#signaling.send(message),
      hello: () => this.#hello(),
      state: () => this.#ownState(),
      makePeer: (offering) => this.#makePeer(offering),
      prepareAnswer: (pc) => prepareAnswer(pc, this.#sources.tracks),
      dropPeer: (pc) => this.#dropPeer(pc),
      onHello: ({ name }) => {
        if (typeof name === 'string') this.peerName = name.trim().slice(0, LONGEST_NAME);
        this.#changed();
      },
      onState: ({ audio, video }) => {
        this.peerMedia = { audio: audio !== false, video: video !== false };
        this.#changed();
      },
      onPictures: ({ paused }) => {
        this.peerPaused = paused === true;
        this.#changed();
      },
      onBye: () => this.#peerGone('left'),
      onAnswered: () => this.#path.answering(performance.now()),
      onFault: (error) => {
        console.warn('The other side:', error);
        this.fault = String(error?.message ?? error).slice(0, 200);
        this.#changed();
      },
    });
  }

  get room() {
    return this.#room;
  }

  open() {
    this.#sources.addEventListener('change', this.#sourcesChanged);
    addEventListener('online', this.#networkChanged);
    this.#sources.settled().then(() => this.#negotiation.settle());
    this.#signaling.open();
  }

  /** Leaves for good; the seat is free at once. */
  hangUp() {
    this.#end('ended');
    this.#signaling.leave();
  }

  async stats() {
    const base = { state: this.state, connectMs: this.connectMs };
    return this.#pc ? { ...base, ...(await figures(this.#pc)) } : base;
  }

  #server(event) {
    switch (event.type) {
      case 'created':
        this.#seated = true;
        this.#forget();
        this.#peerId = null;
        this.#negotiation.part();
        if (this.state !== 'left' && this.state !== 'lost') this.#enter('waiting');
        break;
      case 'joined':
        this.#seated = true;
        this.#meet(event.peer, false);
        break;
      case 'join':
        this.#meet(event.id, true);
        break;
      case 'ready':
        this.readyAt ||= performance.now();
        this.#renew(event.ice_servers);
        break;
      case 'resumed':
        this.#seated = true;
        this.#renew(event.ice_servers);
        this.#mend();
        this.#changed();
        break;
      case 'message':
        // Relayed late, for an end that left meanwhile.
        if (event.from !== undefined && this.#peerId !== null && event.from !== this.#peerId) return;
        if (this.#absent && event.message?.type === 'hello') this.#meet(this.#absent.id, this.#absent.initiator);
        this.#negotiation.receive(event.message);
        break;
      case 'bye':
        if (event.reason === 'replaced') this.#end('replaced');
        else this.#peerGone(event.reason === 'lost' ? 'lost' : 'left');
        break;
      case 'full':
        this.knocking = Number.isFinite(event.retry_ms);
        // Others have the seat that was lost with the line.
        this.#seated = false;
        this.#forget();
        this.#peerId = null;
        this.#negotiation.part();
        this.#enter('full');
        if (this.knocking) {
          clearTimeout(this.#knockTimer);
          this.#knockTimer = setTimeout(() => this.#signaling.knock(), Math.max(1000, event.retry_ms));
        }
        break;
      case 'error':
        this.#refused(event);
        break;
      case 'log':
        console.info('Server:', event);
        break;
    }
  }

  /** Asks for a seat again at once. */
  knock() {
    clearTimeout(this.#knockTimer);
    this.#signaling.knock();
  }

  #refused({ code, message }) {
    const words = String(message ?? code ?? '').slice(0, 200);
    console.warn('Server refused:', code, words);
    // Anything else refused is one message less; without a room there is no call.
    if (this.state === 'joining' || this.state === 'full' || code === 'room-not-hosted') {
      this.detail = words;
      this.#end('error');
      this.#signaling.leave();
    }
  }

  #meet(peerId, initiator) {
    this.#forget();
    this.#peerId = peerId ?? null;
    this.#path = new Path(initiator);
    this.peerName = '';
    this.peerMedia = { audio: true, video: true };
    this.peerPaused = false;
    this.fault = '';
    this.readyAt = 0;
    this.#enter('connecting');
    this.#negotiation.meet(initiator);
    this.#told = JSON.stringify(this.#ownState());
  }

  #peerGone(state) {
    this.#forget();
    this.#peerId = null;
    this.#negotiation.part();
    this.#enter(state);
  }

  #end(state) {
    clearTimeout(this.#knockTimer);
    this.#forget();
    removeEventListener('online', this.#networkChanged);
    this.#sources.removeEventListener('change', this.#sourcesChanged);
    this.#negotiation.part();
    this.#enter(state);
  }

  #renew(iceServers) {
    this.#iceServers = usable(iceServers);
    try {
      this.#pc?.setConfiguration({ ...this.#pc.getConfiguration(), iceServers: this.#iceServers });
    } catch (error) {
      console.warn('ICE servers:', error);
    }
  }

  #makePeer(offering) {
    const pc = makePeer(this.#iceServers, offering, this.#sources.tracks);
    this.#pc = pc;
    // A new connection says so itself.
    this.peerPaused = false;
    pc.ontrack = ({ track }) => {
      for (const old of this.remote.getTracks()) if (old.kind === track.kind) this.remote.removeTrack(old);
      this.remote.addTrack(track);
      this.#changed();
    };
    pc.onconnectionstatechange = () => {
      if (pc === this.#pc) this.#connection(pc);
    };
    return pc;
  }

  #dropPeer(pc) {
    pc.ontrack = null;
    pc.onconnectionstatechange = null;
    pc.close();
    this.#pc = null;
    this.connectedAt = 0;
    this.connectMs = null;
    for (const track of this.remote.getTracks()) this.remote.removeTrack(track);
  }

  #connection(pc) {
    switch (pc.connectionState) {
      case 'connected':
        this.#path.connected();
        this.connectedAt ||= performance.now();
        this.connectMs ??= this.readyAt ? Math.round(this.connectedAt - this.readyAt) : null;
        this.fault = '';
        this.#enter('connected');
        break;
      case 'disconnected':
        this.#path.silent(performance.now());
        break;
      case 'failed':
        this.#path.failed(performance.now());
        break;
      default:
        return;
    }
    this.#mend();
  }

  /** Does what the path needs by now, and comes back when it needs something again. */
  #mend() {
    clearTimeout(this.#pathTimer);
    const remedy = this.#path.timeout(performance.now(), this.#seated);
    if (remedy === 'restart' && this.#negotiation.peerIsOurs) this.#pc?.restartIce();
    else if (remedy === 'anew') this.#negotiation.beginAnew();
    else if (remedy === 'give up') return this.#giveUp();
    if (this.#peerId !== null && !this.#path.up) {
      const state = this.#path.unknown ? 'connecting' : 'reconnecting';
      if (state !== this.state) this.#enter(state);
    }
    const due = this.#path.due(this.#seated);
    if (due !== undefined) this.#pathTimer = setTimeout(() => this.#mend(), Math.max(0, due - performance.now()));
  }

  /** No path has led to the other end for too long; whoever comes back says so, or is asked. */
  #giveUp() {
    const absent = { id: this.#peerId, initiator: this.#negotiation.initiator };
    this.#peerGone('lost');
    this.#absent = absent;
    this.#hailTimer = setInterval(() => {
      if (this.#seated) this.#signaling.send(this.#hello());
    }, HAIL_MS);
  }

  /** Whoever sat opposite is no concern any more. */
  #forget() {
    clearTimeout(this.#pathTimer);
    clearInterval(this.#hailTimer);
    this.#absent = null;
    this.#path = new Path(false);
  }

  #networkChanged = () => {
    this.#path.networkChanged(performance.now());
    this.#mend();
  };

  #hello() {
    return { type: 'hello', app: 'visavis-web', version: 1, name: this.#name, features: [] };
  }

  #ownState() {
    return { type: 'state', audio: this.#sources.on('audio'), video: this.#sources.on('video'), screen: false };
  }

  #sourcesChanged = () => {
    if (this.#pc) applyTracks(this.#pc, this.#sources.tracks).catch((error) => console.warn('Tracks:', error));
    const state = this.#ownState();
    if (this.#peerId === null || JSON.stringify(state) === this.#told) return;
    this.#told = JSON.stringify(state);
    this.#signaling.send(state);
  };

  #enter(state) {
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}
