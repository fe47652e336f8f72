// The room protocol over a WebSocket: takes a seat, keeps it over a broken line, counts messages.
// Knows nothing of calls: it hands every event of the server to `onEvent`.

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
const PING_MS = 15_000;
const SILENCE_MS = 35_000;
/** As the server: what may wait for a broken line before the seat is given up. */
const MOST_WAITING = 64;

export class Signaling {
  #url;
  #room;
  #onEvent;
  #onLine;
  #socket = null;
  #closed = false;
  #attempts = 0;
  #retryTimer = 0;
  #pingTimer = 0;
  #heardAt = 0;
  #resume = null;
  #sent = 0;
  #unacknowledged = [];
  #seated = false;
  #id = null;
  /** The last message: from whom, and its number, which the server counts for each seat. */
  #received = { from: null, seq: 0 };

  /** `onEvent(event)` gets the server's events; `onLine(up)` tells whether the server is reached. */
  constructor(url, room, { onEvent, onLine }) {
    this.#url = url;
    this.#room = room;
    this.#onEvent = onEvent;
    this.#onLine = onLine;
  }

  open() {
    addEventListener('online', this.#online);
    this.#connect();
  }

  /** Relays `message` to the other seat. Waits, within limits, while the line is down. */
  send(message) {
    this.#sent += 1;
    const event = { type: 'message', seq: this.#sent, message };
    this.#unacknowledged.push(event);
    if (this.#unacknowledged.length > MOST_WAITING) this.#unacknowledged.shift();
    if (this.#seated) this.#write(event);
  }

  /** Asks for the seat again, after `full`. */
  knock() {
    this.#write({ type: 'create or join', room: this.#room });
  }

  /** Frees the seat and closes for good. */
  leave() {
    this.#write({ type: 'bye' });
    this.#stop();
    this.#socket?.close(1000);
  }

  #stop() {
    this.#closed = true;
    this.#seated = false;
    clearTimeout(this.#retryTimer);
    clearInterval(this.#pingTimer);
    removeEventListener('online', this.#online);
  }

  #online = () => {
    if (this.#retryTimer) {
      clearTimeout(this.#retryTimer);
      this.#connect();
    }
  };

  #connect() {
    this.#retryTimer = 0;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#heardAt = Date.now();
      this.#pingTimer = setInterval(() => this.#beat(socket), PING_MS);
      this.#onLine(true);
      const join = { type: 'create or join', room: this.#room };
      if (this.#resume) Object.assign(join, { resume: this.#resume, last_seq: this.#received.seq });
      this.#write(join);
    };
    socket.onmessage = ({ data }) => {
      if (this.#closed) return;
      this.#heardAt = Date.now();
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
    this.#seated = false;
    this.#onLine(false);
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#retryTimer = setTimeout(() => this.#connect(), longest * (0.5 + Math.random() / 2));
  }

  #beat(socket) {
    if (Date.now() - this.#heardAt <= SILENCE_MS) {
      this.#write({ type: 'ping' });
      return;
    }
    // A dead network never answers the closing handshake, so `onclose` would come minutes late.
    socket.close();
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
    if (typeof event?.type !== 'string') return;
    switch (event.type) {
      case 'created':
      case 'joined':
        this.#take(event);
        this.#fresh();
        break;
      case 'join':
        this.#fresh();
        break;
      case 'resumed': {
        this.#take(event);
        const had = Number(event.last_seq) || 0;
        this.#unacknowledged = this.#unacknowledged.filter((waiting) => waiting.seq > had);
        for (const waiting of this.#unacknowledged) this.#write(waiting);
        break;
      }
      case 'message':
        if (this.#seen(event)) return;
        break;
      case 'bye':
        if (event.reason === 'replaced') {
          this.#stop();
          this.#socket?.close(1000);
        }
        break;
      case 'pong':
        return;
    }
    this.#onEvent(event);
  }

  #take(event) {
    this.#attempts = 0;
    this.#seated = true;
    if (typeof event.resume === 'string') this.#resume = event.resume;
    if (event.id !== this.#id) this.#received = { from: null, seq: 0 };
    this.#id = event.id;
  }

  /** A new pair: what was meant for the one before must never reach the next. */
  #fresh() {
    this.#unacknowledged = [];
    this.#received.from = null;
  }

  /** Whether a message came already, before the line broke. */
  #seen({ from, seq }) {
    if (!Number.isInteger(seq)) return false;
    if (from === this.#received.from && seq <= this.#received.seq) return true;
    this.#received = { from, seq };
    return false;
  }
}
