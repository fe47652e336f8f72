// The room protocol over a WebSocket: takes a seat, keeps it over a broken line, counts messages.
// Knows nothing of calls: it hands every event of the server to `onEvent`. `resumed` means that the
// same call goes on; `created` and `joined` that everything from the call before is over.

import { Memory } from '/memory.js';

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
/** After a line that worked: mostly it can be had again at once. */
const QUICK_RETRY_MS = [100, 250];
const PING_MS = 5_000;
/** Well below the time for which the server holds a seat. */
const SILENCE_MS = 10_000;
/** Tells the server that the line is given up, not the seat: 1000 would free it. */
const LINE_GIVEN_UP = 4000;

export class Signaling {
  #url;
  #greeting;
  #onEvent;
  #onLine;
  #socket = null;
  #closed = false;
  #attempts = 0;
  #quick = false;
  #retryTimer = 0;
  #pingTimer = 0;
  /** Since when a ping has been waiting for any answer; 0 if none is. */
  #pingedAt = 0;
  #memory;

  /**
   * `greeting()` gives a message for whoever sits opposite, said right behind the request for a seat: it arrives
   * a round trip sooner than what is sent after the answer, and is lost where nobody sits there yet.
   * `onEvent(event)` gets the server's events; `onLine(up)` tells whether the server is reached.
   */
  constructor(url, room, { greeting, onEvent, onLine }) {
    this.#url = url;
    this.#memory = new Memory(room);
    this.#greeting = greeting;
    this.#onEvent = onEvent;
    this.#onLine = onLine;
  }

  open() {
    addEventListener('online', this.#online);
    this.#connect();
  }

  /** Relays `message` to the other seat. Waits, within limits, while the line is down. */
  send(message) {
    const event = this.#memory.send(message);
    if (event) this.#write(event);
  }

  /** Asks for the seat again, after `full`. */
  knock() {
    this.#write(this.#memory.join());
  }

  /** Frees the seat and closes for good. */
  leave() {
    const seat = this.#memory.join();
    const away = seat.resume && this.#socket?.readyState !== WebSocket.OPEN;
    this.#write({ type: 'bye' });
    this.#stop();
    this.#socket?.close(1000);
    if (away) this.#releaseHeld(seat);
  }

  /** The seat is held for this page: without a goodbye the other one would wait in vain. */
  #releaseHeld(seat) {
    const socket = new WebSocket(this.#url);
    socket.onopen = () => {
      for (const event of [seat, { type: 'bye' }]) socket.send(JSON.stringify(event));
      socket.close(1000);
    };
  }

  #stop() {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    clearInterval(this.#pingTimer);
    removeEventListener('online', this.#online);
  }

  /** The network is back, or is another one: connections from before are dead, or soon will be. */
  #online = () => {
    if (!this.#retryTimer) this.#giveUp(this.#socket);
    clearTimeout(this.#retryTimer);
    this.#connect();
  };

  #connect() {
    this.#retryTimer = 0;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#pingedAt = 0;
      this.#pingTimer = setInterval(() => this.#beat(socket), PING_MS);
      this.#onLine(true);
      this.#write(this.#memory.join());
      const greeting = this.#memory.greet(this.#greeting());
      if (greeting) this.#write(greeting);
    };
    socket.onmessage = ({ data }) => {
      // A line that was given up may still deliver; its seat is another line's by then.
      if (this.#closed || socket !== this.#socket) return;
      this.#pingedAt = 0;
      this.#read(data);
    };
    socket.onclose = () => {
      this.#down(socket);
      if (!opened) this.#askWhy();
    };
  }

  /** A page is not told why a WebSocket was refused; a plain request to the same address is. */
  async #askWhy() {
    try {
      const answer = await fetch(this.#url.replace(/^ws/, 'http'), { cache: 'no-store' });
      if (this.#closed || (answer.status !== 401 && answer.status !== 403)) return;
      this.#onEvent({ type: 'error', code: 'access-denied', message: (await answer.text()).trim() });
    } catch {
      // The server cannot be reached at all, which is known already.
    }
  }

  /** The line is down: try again, ever slower, with chance so that a restarted server is not stormed. */
  #down(socket) {
    if (socket !== this.#socket || this.#closed) return;
    this.#socket = null;
    clearInterval(this.#pingTimer);
    this.#memory.lose();
    this.#onLine(false);
    this.#retryTimer = setTimeout(() => this.#connect(), this.#nextWait());
  }

  #nextWait() {
    if (this.#quick) {
      this.#quick = false;
      const [shortest, longest] = QUICK_RETRY_MS;
      return shortest + Math.random() * (longest - shortest);
    }
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempts);
    this.#attempts += 1;
    return longest * (0.5 + Math.random() / 2);
  }

  #beat(socket) {
    // Measured from the ping: a page in the background may be woken long after it.
    if (this.#pingedAt && Date.now() - this.#pingedAt > SILENCE_MS) {
      this.#giveUp(socket);
      return;
    }
    this.#pingedAt ||= Date.now();
    this.#write({ type: 'ping' });
  }

  /** A dead network never answers the closing handshake, so `onclose` would come minutes late. */
  #giveUp(socket) {
    socket?.close(LINE_GIVEN_UP);
    this.#down(socket);
  }

  #write(event) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  #read(data) {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      console.warn('The server sent something that is not JSON');
      return;
    }
    if (typeof event?.type !== 'string' || event.type === 'pong') return;
    // The greeting came to a full room.
    if (event.code === 'not-in-room' && !this.#memory.hasSeat) return;
    if (['created', 'joined', 'resumed'].includes(event.type)) {
      this.#attempts = 0;
      this.#quick = true;
    }
    const { tell, say } = this.#memory.hear(event);
    if (event.type === 'bye' && event.reason === 'replaced') {
      this.#stop();
      this.#socket?.close(1000);
    }
    for (const answer of say) this.#write(answer);
    for (const news of tell) this.#onEvent(news);
  }
}
