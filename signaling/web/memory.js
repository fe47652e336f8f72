// What the page remembers of its seat, so that it can take it back; the twin of the app's
// client/memory.rs. Pure. Nothing is stored: a reload is a new call.

/** As the server: so much is kept while the line is up, and as much again may wait while it is down. */
const MOST_KEPT = 64;
const MOST_KEPT_BYTES = 256 * 1024;

export class Memory {
  #room;
  #token;
  /** The server knows this line to have the seat. */
  #seated;
  #peer;
  /** The number of the newest message from this peer. */
  #received;
  #sent = 0;
  /** The newest messages sent, `{ event, bytes }`. */
  #kept;
  #keptBytes;
  /** The number of the newest message no longer kept. */
  #forgotten;
  /** What was sent while the line is down, `{ count, bytes }`. */
  #waiting;
  /** More was sent than could be kept: the seat cannot be taken back without a gap. */
  #gap;

  constructor(room) {
    this.#room = room;
    this.#reset(null, null, false);
  }

  /** Asks for the own seat, or any. */
  join() {
    const join = { type: 'create or join', room: this.#room };
    return this.#token ? { ...join, resume: this.#token, last_seq: this.#received } : join;
  }

  /** Numbers a message that goes out right behind `join`; null for who comes back, and has been heard. */
  greet(message) {
    if (this.#token) return null;
    this.#sent += 1;
    return { type: 'message', seq: this.#sent, message };
  }

  /** Whether there may be a seat to come back to. */
  get hasSeat() {
    return Boolean(this.#token);
  }

  /** The line is down: what is sent from now on waits for the seat. */
  lose() {
    this.#seated = false;
    this.#waiting ??= { count: 0, bytes: 0 };
  }

  /** Numbers a message; null while it must wait, or has no seat to go out from. */
  send(message) {
    if (!this.#seated && !this.#token) return null;
    this.#sent += 1;
    const event = { type: 'message', seq: this.#sent, message };
    if (this.#token) this.#keep(event);
    return this.#seated ? event : null;
  }

  /** What follows from an event of the server's: what to `tell` the call, what to `say` to the server. */
  hear(event) {
    switch (event.type) {
      case 'created':
        this.#reset(event.resume, null, true);
        break;
      case 'joined':
        this.#reset(event.resume, event.peer, true);
        break;
      case 'join':
        this.#reset(event.resume ?? this.#token, event.id, true);
        break;
      case 'full':
        this.#reset(null, null, false);
        break;
      case 'bye':
        if (event.reason === 'replaced') this.#reset(null, null, false);
        else this.#peer = null;
        break;
      case 'message':
        // It was sent again, but it had arrived.
        if (event.from === this.#peer && event.seq <= this.#received) return { tell: [], say: [] };
        if (Number.isInteger(event.seq)) this.#received = event.seq;
        break;
      case 'resumed':
        return this.#resume(event);
    }
    return { tell: [event], say: [] };
  }

  #resume(event) {
    const { room, id, role, resume } = event;
    const peer = event.peer ?? null;
    const had = Number.isInteger(event.last_seq) ? event.last_seq : 0;
    // A server that was restarted does not know what had arrived, and says 0: then all that is kept
    // goes again.
    if (this.#gap || (had > 0 && this.#forgotten > had)) {
      this.#reset(null, null, false);
      return { tell: [], say: [{ type: 'bye' }, this.join()] };
    }
    if (peer === this.#peer) {
      this.#token = resume;
      this.#seated = true;
      this.#waiting = null;
      const missed = this.#kept.filter((kept) => kept.event.seq > had);
      return { tell: [event], say: missed.map((kept) => kept.event) };
    }
    // Who sits opposite changed meanwhile: that is a new call.
    this.#reset(resume, peer, true);
    const ready = { type: 'ready', ice_servers: event.ice_servers };
    const created = { type: 'created', room, id };
    if (peer === null) return { tell: [created], say: [] };
    if (role === 'responder') return { tell: [{ type: 'joined', room, id, peer }, ready], say: [] };
    return { tell: [created, { type: 'join', room, id: peer }, ready], say: [] };
  }

  /** A new pair, or none: what was meant for the one before must never reach the next. */
  #reset(token, peer, seated) {
    this.#token = typeof token === 'string' ? token : null;
    this.#peer = peer ?? null;
    this.#seated = seated;
    this.#received = 0;
    this.#kept = [];
    this.#keptBytes = 0;
    this.#forgotten = 0;
    this.#waiting = null;
    this.#gap = false;
  }

  #keep(event) {
    const bytes = JSON.stringify(event.message)?.length ?? 0;
    if (this.#waiting) {
      this.#waiting.count += 1;
      this.#waiting.bytes += bytes;
      this.#gap ||= this.#waiting.count > MOST_KEPT || this.#waiting.bytes > MOST_KEPT_BYTES;
      if (this.#gap) return;
    }
    this.#kept.push({ event, bytes });
    this.#keptBytes += bytes;
    // What waits displaces nothing: the other end may still need all of it.
    while (!this.#waiting && (this.#kept.length > MOST_KEPT || this.#keptBytes > MOST_KEPT_BYTES)) {
      const oldest = this.#kept.shift();
      this.#keptBytes -= oldest.bytes;
      this.#forgotten = oldest.event.seq;
    }
  }
}
