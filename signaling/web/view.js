// The call on the screen: paints a Call and our Sources, and says what was pressed. Decides nothing.

import { fragment } from '/access.js';
import { stored } from '/media.js';
import { problemWords, text } from '/text.js';

export const $ = (id) => document.getElementById(id);

const LABELS = { mic: ['unmute', 'mute'], camera: ['cameraOn', 'cameraOff'] };

/** A round switch: icon, colour and accessible name by whether it is on. */
export function setButton(button, kind, on) {
  const icon = `#i-${kind}${on ? '' : '-off'}`;
  const use = button.querySelector('use');
  if (use.getAttribute('href') !== icon) use.setAttribute('href', icon);
  button.classList.toggle('off', !on);
  button.setAttribute('aria-pressed', String(!on));
  const label = text[LABELS[kind][on ? 1 : 0]];
  button.setAttribute('aria-label', label);
  button.title = label;
}

/** Sentences in a box; touched only when they change, so that they are read out once. */
export function showProblems(box, sentences) {
  const old = Array.from(box.children, (child) => child.textContent);
  if (old.join('\n') === sentences.join('\n')) return;
  box.replaceChildren(...sentences.map((sentence) => {
    const line = document.createElement('p');
    line.textContent = sentence;
    return line;
  }));
}

export class CallView {
  #call = null;
  #sources;
  #blocked = false;
  #clockTimer = 0;
  #idleTimer = 0;

  /** `on`: `mute`, `camera`, `hangUp`, `retry`, `rejoin`, `lobby`. */
  constructor(sources, on) {
    this.#sources = sources;
    $('mute').addEventListener('click', on.mute);
    $('cameraToggle').addEventListener('click', on.camera);
    $('hangUp').addEventListener('click', on.hangUp);
    $('retry').addEventListener('click', on.retry);
    $('rejoin').addEventListener('click', on.rejoin);
    $('toLobby').addEventListener('click', on.lobby);
    $('copy').addEventListener('click', () => this.#copy());
    $('play').addEventListener('click', () => this.#play());
    const remote = $('remoteVideo');
    for (const event of ['loadeddata', 'resize', 'emptied', 'playing']) remote.addEventListener(event, () => this.render());
    for (const event of ['pointerdown', 'keydown']) $('call').addEventListener(event, () => this.#blocked && this.#play());
    for (const event of ['pointermove', 'pointerdown', 'keydown', 'focusin']) $('call').addEventListener(event, () => this.#stir());
    addEventListener('resize', () => this.render());
    sources.addEventListener('change', () => {
      // A page that captures may play: what was refused before the camera opened is allowed now.
      if (this.#blocked && (sources.tracks.audio || sources.tracks.video)) this.#play();
      this.render();
    });
  }

  show(call) {
    this.#call = call;
    this.#blocked = false;
    call.addEventListener('change', () => this.render());
    $('call').hidden = false;
    $('link').value = `${location.origin}/room/${encodeURIComponent(call.room)}${fragment()}`;
    document.title = `${call.room} · Visavis`;
    const speaker = stored('speaker');
    if (speaker) $('remoteSound').setSinkId?.(speaker).catch(() => {}); // unplugged since: the default plays
    this.#clockTimer = setInterval(() => this.#clock(), 1000);
    this.render();
    $('call').focus({ preventScroll: true });
    this.#stir();
  }

  hide() {
    clearInterval(this.#clockTimer);
    this.#call = null;
    $('call').hidden = true;
    $('remoteVideo').srcObject = null;
    $('remoteSound').srcObject = null;
    $('localVideo').srcObject = null;
  }

  render() {
    const call = this.#call;
    if (!call) return;
    const { state } = call;
    const over = ['ended', 'replaced', 'error'].includes(state);
    const paired = ['connecting', 'connected', 'reconnecting'].includes(state);
    const root = $('call');
    root.dataset.state = state;

    const name = call.peerName || text.peer;
    $('peerName').textContent = paired ? name : '';
    $('encrypted').hidden = state !== 'connected';
    $('peerMuted').hidden = state !== 'connected' || call.peerMedia.audio;
    say($('status'), call.detail && state === 'error' ? text.refused(call.detail) : text.state[state]);
    const hints = { waiting: text.waitingHint, full: call.knocking ? text.fullHint : '' };
    const away = state === 'connected' ? text.serverAway : text.serverLost;
    say($('hint'), (!call.lineUp && !over && away) || hints[state] || '');
    $('hint').hidden = $('hint').textContent === '';
    $('invite').hidden = !['waiting', 'left', 'lost'].includes(state);
    $('retry').hidden = state !== 'full';
    $('rejoin').hidden = !over;
    $('toLobby').hidden = !(over || state === 'full');
    $('controls').hidden = over;
    $('corner').hidden = over;

    this.#remote(call, paired, name);
    this.#local();
    const notes = problemNotes(this.#sources);
    if (call.fault) notes.push(text.peerFault(call.fault));
    showProblems($('callProblems'), over ? [] : notes);
    this.#clock();
  }

  #remote(call, paired, name) {
    const video = $('remoteVideo');
    const tracks = call.remote.getTracks().length;
    if (tracks > 0 && video.srcObject !== call.remote) {
      video.srcObject = call.remote;
      $('remoteSound').srcObject = call.remote;
      this.#play();
    } else if (tracks === 0 && video.srcObject) {
      video.srcObject = null;
      $('remoteSound').srcObject = null;
      this.#blocked = false;
    }
    const picture = paired && call.peerMedia.video && !call.peerPaused && video.videoWidth > 0;
    video.classList.toggle('hidden', !picture);
    const placeholder = $('remotePlaceholder');
    placeholder.hidden = !paired || picture || call.state !== 'connected';
    placeholder.querySelector('.avatar').textContent = [...name][0].toUpperCase();
    const why = !call.peerMedia.video ? text.peerCameraOff : call.peerPaused ? text.peerPaused : text.peerNoVideo;
    say(placeholder.querySelector('.why'), why(name));
    video.classList.toggle('cover', fits(video));
    $('play').hidden = !this.#blocked;
    $('call').classList.toggle('has-picture', picture);
  }

  #local() {
    const { tracks, wanted } = this.#sources;
    const video = $('localVideo');
    const shown = video.srcObject?.getVideoTracks()[0] ?? null;
    if (shown !== tracks.video) video.srcObject = tracks.video ? new MediaStream([tracks.video]) : null;
    $('localPlaceholder').hidden = tracks.video !== null;
    setButton($('mute'), 'mic', wanted.audio && (tracks.audio !== null || this.#sources.asking));
    setButton($('cameraToggle'), 'camera', wanted.video && (tracks.video !== null || this.#sources.asking));
  }

  /**
   * A muted picture plays everywhere; sound not without a touch in some browsers, hence the button. It has an element of its
   * own, since an element with a video track stays silent until the first picture, which may never come.
   */
  async #play() {
    this.#blocked = false; // a refusal comes at once, a yes only with the first sound
    try {
      await $('remoteSound').play();
    } catch (error) {
      if (error.name !== 'NotAllowedError') return; // replaced by a newer one
      this.#blocked = true;
    }
    this.render();
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText($('link').value);
    } catch {
      $('link').select(); // no clipboard over plain HTTP: selected, ready for Ctrl+C
      return;
    }
    $('copy').textContent = text.copied;
    setTimeout(() => { $('copy').textContent = text.copyLink; }, 2000);
  }

  #clock() {
    const since = this.#call?.connectedAt;
    const seconds = since ? Math.floor((performance.now() - since) / 1000) : 0;
    const two = (n) => String(n).padStart(2, '0');
    const hours = Math.floor(seconds / 3600);
    $('clock').textContent = since ? `${hours ? `${hours}:` : ''}${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}` : '';
  }

  /** The controls fade while nothing is touched, and only over a picture. */
  #stir() {
    $('call').classList.remove('idle');
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => $('call').classList.add('idle'), 4000);
  }
}

function problemNotes(sources) {
  return (sources.asking ? [text.asking] : []).concat(problemWords(sources.problems));
}

/** Whether filling the window cuts off so little that it is worth it: at most a quarter of one side. */
function fits({ videoWidth, videoHeight, clientWidth, clientHeight }) {
  const ratio = (videoWidth / videoHeight) / (clientWidth / clientHeight);
  return ratio > 0.75 && ratio < 1 / 0.75;
}

function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
