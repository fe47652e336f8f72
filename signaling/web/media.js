// Our own camera and microphone: opened, switched, lost, found again. Fires `change` whenever a track,
// a device list or a problem changes. Never throws for a device: what failed stands in `problems`.

/** How long the browser's question may stay unanswered before the call goes on without sources. */
const ANSWER_MS = 20_000;

const CONSTRAINTS = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
};

export class Sources extends EventTarget {
  tracks = { audio: null, video: null };
  wanted = { audio: true, video: true };
  problems = { audio: null, video: null };
  devices = [];
  asking = false;
  #chosen = { audio: stored('mic'), video: stored('camera') };
  #turn = { audio: 0, video: 0 };
  #opening = null;

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener('devicechange', () => this.#devicesChanged());
  }

  /** Opens what is wanted; resolves once each is there or known to be absent. */
  open() {
    this.#opening ??= this.#openWanted();
    return this.#opening;
  }

  /** As `open`, but does not wait for ever for an answer to the browser's question. */
  settled() {
    return Promise.race([this.open(), new Promise((resolve) => setTimeout(resolve, ANSWER_MS))]);
  }

  /** Whether the other end gets something of this kind. */
  on(kind) {
    return this.wanted[kind] && this.tracks[kind] !== null;
  }

  chosen(kind) {
    return this.tracks[kind]?.getSettings().deviceId ?? this.#chosen[kind];
  }

  /** Mutes by silence: the microphone stays open, so that it is back at once. */
  setAudio(on) {
    this.wanted.audio = on;
    if (this.tracks.audio) this.tracks.audio.enabled = on;
    else if (on) this.#openOne('audio');
    this.#changed();
  }

  /** Off closes the camera, so that its light goes out. */
  setVideo(on) {
    this.wanted.video = on;
    if (on && !this.tracks.video) this.#openOne('video');
    if (!on) {
      this.#turn.video += 1;
      this.#drop('video');
      this.problems.video = null;
    }
    this.#changed();
  }

  choose(kind, deviceId) {
    this.#chosen[kind] = deviceId;
    store(kind === 'audio' ? 'mic' : 'camera', deviceId);
    if (this.wanted[kind]) this.#openOne(kind);
  }

  close() {
    for (const kind of ['audio', 'video']) {
      this.#turn[kind] += 1;
      this.#drop(kind);
    }
    this.#opening = null;
    this.#changed();
  }

  async #openWanted() {
    const kinds = ['audio', 'video'].filter((kind) => this.wanted[kind]);
    if (kinds.length === 0) return;
    if (!navigator.mediaDevices?.getUserMedia) {
      for (const kind of kinds) this.problems[kind] = { reason: 'insecure' };
      this.#changed();
      return;
    }
    // Asked for together the browser puts one question; only when that fails each is tried alone.
    const turns = {};
    for (const kind of kinds) turns[kind] = ++this.#turn[kind];
    this.asking = true;
    this.#changed();
    try {
      const stream = await navigator.mediaDevices.getUserMedia(Object.fromEntries(kinds.map((kind) => [kind, this.#constraints(kind)])));
      for (const track of stream.getTracks()) this.#take(track, turns[track.kind]);
    } catch (error) {
      const alone = await this.#worthAlone(kinds, error);
      for (const kind of kinds) {
        if (alone.includes(kind)) await this.#openOne(kind);
        else if (turns[kind] === this.#turn[kind]) this.problems[kind] = problem(error);
      }
    }
    this.asking = false;
    await this.#list();
    this.#changed();
  }

  /** Which kinds may still succeed alone. A question that was waved away is not put a second time. */
  async #worthAlone(kinds, error) {
    if (kinds.length < 2) return [];
    if (error.name !== 'NotAllowedError') return kinds;
    const states = await Promise.all(kinds.map(permission));
    return states.includes('denied') ? kinds.filter((_, i) => states[i] !== 'denied') : [];
  }

  async #openOne(kind) {
    const turn = ++this.#turn[kind];
    if (!navigator.mediaDevices?.getUserMedia) {
      this.problems[kind] = { reason: 'insecure' };
      this.#changed();
      return;
    }
    try {
      // Some cameras open once only: the old track goes first.
      this.#drop(kind);
      const stream = await navigator.mediaDevices.getUserMedia({ [kind]: this.#constraints(kind) });
      this.#take(stream.getTracks()[0], turn);
    } catch (error) {
      if (turn === this.#turn[kind]) this.problems[kind] = problem(error);
    }
    await this.#list();
    this.#changed();
  }

  #constraints(kind) {
    const chosen = this.#chosen[kind];
    return chosen ? { ...CONSTRAINTS[kind], deviceId: { ideal: chosen } } : CONSTRAINTS[kind];
  }

  #take(track, turn) {
    const { kind } = track;
    if (turn !== this.#turn[kind] || !this.wanted[kind] && kind === 'video') {
      track.stop();
      return;
    }
    this.#drop(kind);
    track.enabled = this.wanted[kind];
    track.contentHint = kind === 'video' ? 'motion' : 'speech';
    track.onended = () => {
      if (this.tracks[kind] !== track) return;
      this.tracks[kind] = null;
      this.problems[kind] = { reason: 'gone' };
      this.#changed();
    };
    this.tracks[kind] = track;
    this.problems[kind] = null;
  }

  #drop(kind) {
    this.tracks[kind]?.stop();
    this.tracks[kind] = null;
  }

  async #list() {
    try {
      this.devices = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.deviceId !== '');
    } catch {
      this.devices = [];
    }
  }

  async #devicesChanged() {
    await this.#list();
    for (const kind of ['audio', 'video']) {
      const missed = ['none', 'gone'].includes(this.problems[kind]?.reason);
      const here = this.devices.some((device) => device.kind === `${kind}input`);
      if (missed && here && this.wanted[kind]) await this.#openOne(kind);
    }
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}

async function permission(kind) {
  try {
    return (await navigator.permissions.query({ name: kind === 'audio' ? 'microphone' : 'camera' })).state;
  } catch {
    return 'unknown'; // this browser does not tell
  }
}

/** What a failed getUserMedia means to a person (Media Capture and Streams, 10.2.1). */
function problem(error) {
  const reasons = {
    NotAllowedError: 'denied',
    SecurityError: 'denied',
    NotFoundError: 'none',
    OverconstrainedError: 'none',
    NotReadableError: 'busy',
    AbortError: 'busy',
  };
  return { reason: reasons[error.name] ?? 'other', detail: error.message || error.name };
}

/** Loudness of a microphone track, 0 to 1 over the 60 dB that speech needs; null stops. */
export class LevelMeter {
  #context = null;
  #analyser = null;
  #source = null;
  #track = null;
  #samples = null;

  watch(track) {
    if (track === this.#track) return;
    this.#track = track;
    this.#source?.disconnect();
    this.#source = null;
    if (!track) return;
    if (!this.#context) {
      this.#context = new AudioContext();
      this.#analyser = new AnalyserNode(this.#context, { fftSize: 1024 });
      this.#samples = new Float32Array(this.#analyser.fftSize);
    }
    this.#source = this.#context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#analyser);
  }

  /** Browsers let sound run only after a touch or a key. */
  wake() {
    if (this.#context?.state === 'suspended') this.#context.resume();
  }

  level() {
    if (!this.#source) return 0;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    const power = this.#samples.reduce((sum, sample) => sum + sample * sample, 0) / this.#samples.length;
    return Math.max(0, Math.min(1, 1 + (10 * Math.log10(power + 1e-12)) / 60));
  }

  close() {
    this.watch(null);
    this.#context?.close();
    this.#context = null;
  }
}

/** Settings are a convenience: a browser that keeps none (private mode) works all the same. */
export function stored(key) {
  try {
    return localStorage.getItem(`visavis.${key}`) ?? '';
  } catch {
    return '';
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(`visavis.${key}`, value);
  } catch {
    // Not kept: asked again next time.
  }
}
