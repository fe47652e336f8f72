// The lobby: which room, who, with which camera and microphone, and how one looks and sounds.

import { LevelMeter, store, stored } from '/media.js';
import { parseRoom, proposeRoom } from '/room_name.js';
import { problemWords, text } from '/text.js';
import { $, setButton, showProblems } from '/view.js';

const METER_CELLS = 24;

export class Lobby {
  #sources;
  #onJoin;
  #meter = new LevelMeter();
  #cells = [];
  #frame = 0;
  #shown = false;

  /** `onJoin(room, name)` is called with a valid room. */
  constructor(sources, onJoin) {
    this.#sources = sources;
    this.#onJoin = onJoin;
    this.#cells = Array.from({ length: METER_CELLS }, () => $('meter').appendChild(document.createElement('i')));
    $('name').value = stored('name');
    $('name').addEventListener('input', () => {
      store('name', $('name').value.trim());
      this.#render();
    });
    $('room').addEventListener('input', () => this.#complain(null));
    $('joinForm').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    $('lobbyMic').addEventListener('click', () => sources.setAudio(!sources.wanted.audio));
    $('lobbyCamera').addEventListener('click', () => sources.setVideo(!sources.wanted.video));
    $('mic').addEventListener('change', () => sources.choose('audio', $('mic').value));
    $('camera').addEventListener('change', () => sources.choose('video', $('camera').value));
    $('speaker').addEventListener('change', () => store('speaker', $('speaker').value));
    for (const kind of ['pointerdown', 'keydown']) addEventListener(kind, () => this.#meter.wake());
    sources.addEventListener('change', () => this.#render());
  }

  show(room) {
    this.#shown = true;
    $('lobby').hidden = false;
    $('room').value = room || $('room').value || proposeRoom();
    document.title = 'Visavis';
    this.#sources.open();
    this.#render();
    this.#beat();
    (room ? $('join') : $('room')).focus();
  }

  hide() {
    this.#shown = false;
    $('lobby').hidden = true;
    cancelAnimationFrame(this.#frame);
    this.#meter.close();
    $('preview').srcObject = null;
  }

  /** The name others see. */
  static name() {
    return stored('name').trim() || text.guest;
  }

  #submit() {
    const typed = $('room').value;
    const parsed = parseRoom(typed, location.origin);
    if (!parsed) this.#complain(typed.trim() === '' ? text.roomEmpty : text.roomBad);
    else if (parsed.elsewhere) location.href = parsed.elsewhere;
    else this.#onJoin(parsed.room);
  }

  #complain(words) {
    $('roomProblem').hidden = words === null;
    $('roomProblem').textContent = words ?? '';
    $('room').setAttribute('aria-invalid', String(words !== null));
    if (words !== null) $('room').focus();
  }

  #render() {
    if (!this.#shown) return;
    const { tracks, wanted, problems, devices } = this.#sources;
    const preview = $('preview');
    const shown = preview.srcObject?.getVideoTracks()[0] ?? null;
    if (shown !== tracks.video) preview.srcObject = tracks.video ? new MediaStream([tracks.video]) : null;
    $('previewPlaceholder').hidden = tracks.video !== null;
    $('previewPlaceholder').querySelector('.avatar').textContent = [...Lobby.name()][0];
    $('previewPlaceholder').querySelector('.why').textContent = wanted.video ? '' : text.cameraIsOff;
    $('previewName').textContent = Lobby.name();
    setButton($('lobbyMic'), 'mic', wanted.audio);
    setButton($('lobbyCamera'), 'camera', wanted.video);
    this.#meter.watch(wanted.audio ? tracks.audio : null);
    fill($('camera'), devices.filter(({ kind }) => kind === 'videoinput'), this.#sources.chosen('video'));
    fill($('mic'), devices.filter(({ kind }) => kind === 'audioinput'), this.#sources.chosen('audio'));
    const speakers = devices.filter(({ kind }) => kind === 'audiooutput');
    $('speakerPick').hidden = speakers.length === 0 || !('setSinkId' in HTMLMediaElement.prototype);
    fill($('speaker'), speakers, stored('speaker'));
    const notes = this.#sources.asking ? [text.asking] : [];
    showProblems($('lobbyProblems'), notes.concat(problemWords(problems)));
  }

  #beat = () => {
    const level = this.#meter.level();
    const lit = Math.round(level * METER_CELLS);
    this.#cells.forEach((cell, index) => cell.classList.toggle('lit', index < lit));
    $('meter').setAttribute('aria-valuenow', String(Math.round(level * 100)));
    this.#frame = requestAnimationFrame(this.#beat);
  };
}

function fill(select, devices, chosen) {
  const wanted = devices.length === 0
    ? [['', text.noDevice]]
    : devices.map(({ deviceId, label }, index) => [deviceId, label || text.device(index + 1)]);
  const options = wanted.map(([value, label]) => new Option(label, value, false, value === chosen));
  const same = options.length === select.options.length
    && options.every((option, i) => option.value === select.options[i].value && option.text === select.options[i].text);
  // An open list closes when it is filled anew: only when something changed.
  if (!same) select.replaceChildren(...options);
  if (devices.some(({ deviceId }) => deviceId === chosen)) select.value = chosen;
  select.disabled = devices.length === 0;
}
