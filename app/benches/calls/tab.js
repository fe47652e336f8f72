// Runs in a tab before the page's own scripts, and writes down when each numbered picture was captured and
// shown, keeps samples of what was shown, and reads the connection's counters.
(() => {
  const bench = { captured: [], shown: [], readyAt: null, connectedAt: null, firstAt: null, kept: [], every: 0, period: 0 };
  window.bench = bench;
  let connection = null;
  const now = () => performance.timeOrigin + performance.now();

  /** The number in a picture's strip, of 40 cells; null where it does not check out. */
  async function readStrip(frame) {
    const { codedWidth: width, codedHeight: height } = frame;
    const rect = { x: 0, y: Math.floor(height / 36) & ~1, width: width & ~1, height: 2 };
    const bytes = new Uint8Array(frame.allocationSize({ rect }));
    await frame.copyTo(bytes, { rect });
    const coloured = /RGB|BGR/.test(frame.format ?? '');
    const level = (cell) => bytes[Math.floor(((cell + 0.5) * width) / 40) * (coloured ? 4 : 1) + (coloured ? 1 : 0)];
    const white = (level(0) + level(38)) / 2;
    const black = (level(1) + level(39)) / 2;
    if (white - black < 60) return null;
    const bit = (cell) => (level(cell) > (white + black) / 2 ? 1 : 0);
    let value = 0;
    for (let cell = 2; cell < 34; cell += 1) value = value * 2 + bit(cell);
    let sum = 0;
    for (let shift = 0; shift < 32; shift += 4) sum ^= Math.floor(value / 2 ** shift) & 15;
    let check = 0;
    for (let cell = 34; cell < 38; cell += 1) check = check * 2 + bit(cell);
    return sum === check ? value : null;
  }

  // What the camera delivers.
  const { mediaDevices } = navigator;
  const open = mediaDevices?.getUserMedia.bind(mediaDevices);
  if (open) {
    mediaDevices.getUserMedia = async (constraints) => {
      const stream = await open(constraints);
      const [camera] = stream.getVideoTracks();
      if (camera) watchCamera(camera.clone());
      return stream;
    };
  }
  async function watchCamera(track) {
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      const at = now();
      const number = await readStrip(frame);
      frame.close();
      if (number !== null) bench.captured.push([at, number]);
    }
  }

  // When the server said that both are in the room.
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...given) {
      super(...given);
      this.addEventListener('message', ({ data }) => {
        if (typeof data === 'string' && JSON.parse(data).type === 'ready') bench.readyAt ??= performance.now();
      });
    }
  };

  // The connection that the page makes.
  const Real = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    constructor(...given) {
      super(...given);
      connection = this;
      bench.connectedAt = null;
      this.addEventListener('connectionstatechange', () => {
        if (this.connectionState === 'connected') bench.connectedAt ??= performance.now();
      });
    }
  };

  // What is shown. The newest picture is held until the next: one that is missed is judged by it.
  let held = null;
  let next = 0;
  const due = (end) => {
    const numbers = [];
    for (; next < end; next += bench.every) numbers.push(next % bench.period);
    return numbers;
  };
  async function keep(frame, number, numbers) {
    const bytes = new Uint8Array(frame.allocationSize());
    const [{ offset, stride }] = await frame.copyTo(bytes);
    const { width, height } = frame.visibleRect;
    const luma = new Uint8Array(width * height);
    for (let row = 0; row < height; row += 1) {
      luma.set(bytes.subarray(offset + row * stride, offset + row * stride + width), row * width);
    }
    bench.kept.push({ at: now(), number, numbers, width, height, luma: luma.toBase64() });
  }
  async function sample(frame, number) {
    const before = held;
    if (number === null || bench.every === 0) {
      frame.close();
      return;
    }
    if (before === null) {
      next = number + bench.every;
      held = { frame, number, at: number };
      return;
    }
    const at = before.at + ((number - before.number + bench.period) % bench.period);
    held = { frame, number, at };
    const [missed, present] = [due(at), due(at + 1)];
    if (missed.length > 0) await keep(before.frame, before.number, missed);
    if (present.length > 0) await keep(frame, number, present);
    before.frame.close();
  }
  let last = Promise.resolve();
  function watch(video) {
    const shown = () => {
      video.requestVideoFrameCallback(shown);
      const at = now();
      bench.firstAt ??= performance.now();
      let frame;
      try {
        frame = new VideoFrame(video);
      } catch {
        return; // taken away since
      }
      // One after the other, so that they stay in order.
      last = last
        .then(async () => {
          const number = await readStrip(frame);
          bench.shown.push([at, number, frame.displayWidth, frame.displayHeight]);
          await sample(frame, number);
        })
        .catch((error) => console.error('bench:', error));
    };
    video.requestVideoFrameCallback(shown);
  }
  addEventListener('DOMContentLoaded', () => {
    const video = document.getElementById('remoteVideo');
    if (video) watch(video);
  });

  /** Begins to keep every so-manieth picture of a clip of so many. */
  bench.sample = (every, period) => Object.assign(bench, { every, period });

  /** What was kept since the last call. */
  bench.take = async () => {
    await last;
    return bench.kept.splice(0);
  };

  /** The picture on show. */
  bench.onShow = async () => {
    await last;
    if (held) await keep(held.frame, held.number, []);
    return bench.take();
  };

  /** The counters now. Payload only: no headers, no padding, nothing sent twice. */
  bench.counters = async () => {
    const counters = { at: now(), video: 0, audio: 0, concealed: 0, samples: 0, freezes: 0, frozen: 0, codec: '' };
    const report = connection ? await connection.getStats() : new Map();
    for (const entry of report.values()) {
      if (entry.type !== 'inbound-rtp') continue;
      const repairs = (entry.retransmittedBytesReceived ?? 0) + (entry.fecBytesReceived ?? 0);
      counters[entry.kind] = entry.bytesReceived - repairs;
      if (entry.kind === 'audio') {
        counters.concealed = entry.concealedSamples;
        counters.samples = entry.totalSamplesReceived;
      } else {
        counters.freezes = entry.freezeCount;
        counters.frozen = entry.totalFreezesDuration;
        counters.codec = `${report.get(entry.codecId)?.mimeType ?? ''} by ${entry.decoderImplementation ?? ''}`;
      }
    }
    return counters;
  };

  /** Counters each second from now on, for figures a second. */
  bench.series = [];
  bench.everySecond = () => setInterval(async () => bench.series.push(await bench.counters()), 1000);
})();
