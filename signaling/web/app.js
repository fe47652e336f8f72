// The start: which room the address names, lobby or call, keys, and coming back after a reload.

import { fragment, withToken } from '/access.js';
import { Call } from '/call.js';
import { Lobby } from '/lobby.js';
import { Sources } from '/media.js';
import { roomOfPath } from '/room_name.js';
import { translate } from '/text.js';
import { $, CallView } from '/view.js';

translate(document);

const sources = new Sources();
const lobby = new Lobby(sources, (room) => enter(room));
const view = new CallView(sources, {
  mute: () => sources.setAudio(!sources.on('audio')),
  camera: () => sources.setVideo(!sources.on('video')),
  hangUp,
  retry: () => call?.knock(),
  rejoin: () => enter(call.room),
  lobby: toLobby,
});
let call = null;

function enter(room) {
  call?.hangUp();
  lobby.hide();
  const path = `/room/${encodeURIComponent(room)}`;
  if (location.pathname !== path) history.pushState(null, '', path + fragment());
  remember(room);
  const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
  call = new Call(withToken(url), room, Lobby.name(), sources);
  call.addEventListener('change', callChanged);
  view.show(call);
  call.open();
}

function hangUp() {
  call?.hangUp();
}

/** An ended stay holds no device, and a reload of its page does not ring again. */
function callChanged({ target }) {
  if (target !== call || !['ended', 'replaced', 'error'].includes(call.state)) return;
  remember(null);
  sources.close();
}

function toLobby() {
  const room = call?.room ?? roomOfPath(location.pathname);
  call?.hangUp();
  call = null;
  view.hide();
  lobby.show(room);
}

/** The room this tab is in, so that a reload comes straight back. */
function remember(room) {
  try {
    if (room === null) sessionStorage.removeItem('visavis.room');
    else sessionStorage.setItem('visavis.room', room);
  } catch {
    // Not kept: a reload then shows the lobby.
  }
}

function remembered() {
  try {
    return sessionStorage.getItem('visavis.room');
  } catch {
    return null;
  }
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.matches?.('input:not([readonly]), select, textarea')) return;
  const inLobby = !$('lobby').hidden;
  const key = event.key.toLowerCase();
  if (key === 'm') (inLobby ? $('lobbyMic') : $('mute')).click();
  else if (key === 'v') (inLobby ? $('lobbyCamera') : $('cameraToggle')).click();
  else if (key === 'escape' && !inLobby && !$('controls').hidden) hangUp();
});

// A reload or a closed tab frees the seat at once; the room is remembered, for the reload.
addEventListener('pagehide', () => {
  const room = call && !['ended', 'replaced', 'error'].includes(call.state) ? call.room : null;
  call?.hangUp();
  if (room) remember(room);
});
// Back out of the browser's cache of pages: the call in it is over, so begin anew.
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});
addEventListener('popstate', () => location.reload());

/** For looking in from outside: the call's state and figures. Read-only. */
window.visavis = Object.freeze({
  get state() {
    return call?.state ?? 'lobby';
  },
  stats: () => call?.stats() ?? Promise.resolve({ state: 'lobby' }),
});

const room = roomOfPath(location.pathname);
if (room && (new URLSearchParams(location.search).has('join') || remembered() === room)) enter(room);
else lobby.show(room);
