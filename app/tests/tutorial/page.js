// A page that speaks as the tutorial's does: its events, its message shapes, its notion of who offers,
// and as little care. ?room=NAME, ?delay=MS before the camera is there.
'use strict';

const room = query.get('room') ?? 'foo';
const delay = Number(query.get('delay') ?? 0);

let initiator = false;
let channelOpen = false;
let camera = null;
let connection = null;

/** For the tests. */
const seen = { events: [], starts: 0, camera: false };
window.seen = seen;

const socket = io.connect();

function say(message) {
  socket.emit('message', message);
}

for (const event of ['created', 'join', 'joined', 'full', 'ready', 'log']) {
  socket.on(event, (...list) => seen.events.push([event, ...list]));
}
socket.on('created', () => {
  initiator = true;
});
for (const event of ['join', 'joined']) {
  socket.on(event, () => {
    channelOpen = true;
  });
}

socket.on('message', (message) => {
  seen.events.push(['message', message.type ?? message]);
  if (message === 'got user media') {
    startIfReady();
  } else if (message === 'bye') {
    if (connection) {
      stop();
      initiator = false;
    }
  } else if (message.type === 'offer') {
    if (!initiator) startIfReady();
    // Without a camera there is no connection yet, and this throws: an offer that comes too early is lost.
    connection.setRemoteDescription(new RTCSessionDescription(message));
    connection.createAnswer().then(describe);
  } else if (message.type === 'answer' && connection) {
    connection.setRemoteDescription(new RTCSessionDescription(message));
  } else if (message.type === 'candidate' && connection) {
    connection.addIceCandidate(new RTCIceCandidate({ sdpMLineIndex: message.label, candidate: message.candidate }));
  }
});

function describe(description) {
  connection.setLocalDescription(description);
  say(description);
}

function startIfReady() {
  if (connection || !camera || !channelOpen) return;
  seen.starts += 1;
  connection = new RTCPeerConnection(null);
  window.connection = connection;
  connection.onicecandidate = ({ candidate }) => {
    if (!candidate) return;
    const { sdpMLineIndex: label, sdpMid: id } = candidate;
    say({ type: 'candidate', label, id, candidate: candidate.candidate });
  };
  connection.ontrack = ({ streams }) => {
    document.getElementById('remoteVideo').srcObject = streams[0];
  };
  for (const track of camera.getTracks()) connection.addTrack(track, camera);
  if (initiator) connection.createOffer().then(describe);
}

function stop() {
  connection.close();
  connection = null;
}

window.onbeforeunload = () => say('bye');

socket.emit('create or join', room);

setTimeout(async () => {
  camera = await navigator.mediaDevices.getUserMedia({ audio: false, video: true });
  document.getElementById('localVideo').srcObject = camera;
  seen.camera = true;
  say('got user media');
  if (initiator) startIfReady();
}, delay);
