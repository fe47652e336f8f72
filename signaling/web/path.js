// How media gets to the other end, and what is to be done where it does not. No DOM, no network, no clock:
// `now` is in milliseconds. The twin of the app's call/path.rs.
//
// A path that goes silent is looked for anew on the same connection (ICE restart); where that leads to nothing,
// a new connection is begun in the same call; and at some point it is given up. Either end may restart. Only the
// initiator begins anew, and it goes first, so that offers seldom cross.

const RESTART_WITHIN = 5_000;
const ANEW_WITHIN = 12_000;
/** So much of a start the initiator gets. */
const RESPONDER_WAITS = 2_000;
const GIVE_UP_AFTER = 30_000;

export class Path {
  #initiator;
  #state = 'unknown';
  #since = 0;
  #next = null;
  #tried = false;

  constructor(initiator) {
    this.#initiator = initiator;
  }

  get up() {
    return this.#state === 'up';
  }

  /** There was none yet. */
  get unknown() {
    return this.#state === 'unknown';
  }

  /** Media can flow. */
  connected() {
    this.#state = 'up';
    this.#next = null;
    this.#tried = false;
  }

  /** Nothing comes from the other end any more. */
  silent(now) {
    this.#down(now);
    // What is under way already takes its course.
    if (!this.#next && !this.unknown) this.#next = { at: this.#firstMove(now), remedy: 'restart' };
  }

  /** The connection says that it is dead, or it never came to be. */
  failed(now) {
    this.#down(now);
    if (this.#initiator) this.#next = { at: now, remedy: 'anew' };
    else this.#next = this.unknown ? null : { at: this.#firstMove(now), remedy: 'restart' };
  }

  /** The network that the path begins at is gone. */
  networkChanged(now) {
    if (!this.unknown) this.#next = { at: now, remedy: 'restart' };
  }

  /** We answer an offer of the other end: what it tries takes its course first. */
  answering(now) {
    if (this.#state === 'down') this.#next = { at: now + ANEW_WITHIN, remedy: 'restart' };
  }

  /** When `timeout` is due, or undefined. `seated`: whether there is a server to tell the other end through. */
  due(seated) {
    const times = [];
    if (this.#next && seated) times.push(this.#next.at);
    if (this.#state === 'down') times.push(this.#since + GIVE_UP_AFTER);
    return times.length > 0 ? Math.min(...times) : undefined;
  }

  /** What is to be done now: `restart`, `anew`, `give up` or nothing. */
  timeout(now, seated) {
    if (this.#state === 'down' && now >= this.#since + GIVE_UP_AFTER) {
      this.#state = 'unknown';
      this.#next = null;
      this.#tried = false;
      return 'give up';
    }
    if (!this.#next || !seated || now < this.#next.at) return undefined;
    const { remedy } = this.#next;
    // A restart of a path that seemed up led to nothing.
    if (this.up && this.#tried) this.#down(now);
    this.#tried = true;
    if (remedy === 'restart') this.#next = { at: now + RESTART_WITHIN, remedy: this.#initiator ? 'anew' : 'restart' };
    else this.#next = { at: now + ANEW_WITHIN, remedy: 'anew' };
    return remedy;
  }

  #down(now) {
    if (!this.up) return;
    this.#state = 'down';
    this.#since = now;
  }

  #firstMove(now) {
    return this.#initiator ? now : now + RESPONDER_WAITS;
  }
}
