// The RTCPeerConnection: its transceivers, codecs and figures. Always one audio and one video
// transceiver, both ways, so that a camera that comes later needs only `replaceTrack`.

/** A connection with our tracks; offering, it brings the transceivers, answering, it takes the offerer's. */
export function makePeer(iceServers, offering, tracks) {
  // `?relay` in the page's address: through a relay or not at all, so that the other end does not learn our addresses.
  const iceTransportPolicy = new URLSearchParams(location.search).has('relay') ? 'relay' : 'all';
  const pc = new RTCPeerConnection({ iceServers: usable(iceServers), iceTransportPolicy, bundlePolicy: 'max-bundle' });
  hearStereo(pc);
  if (offering) {
    for (const kind of ['audio', 'video']) {
      pc.addTransceiver(tracks[kind] ?? kind, { direction: 'sendrecv', streams: [OUR_STREAM] });
    }
    preferCodecs(pc);
  }
  return pc;
}

/**
 * Music in two channels is heard in two (RFC 7587, 6.1), while our own voice stays in one. Chromium decodes as its own
 * description says, which leaves stereo out, and would encode as the other end's says: a voice at twice the rate.
 */
function hearStereo(pc) {
  const setLocal = pc.setLocalDescription.bind(pc);
  pc.setLocalDescription = async (description) => {
    if (description) return setLocal(description);
    try {
      const made = pc.signalingState === 'have-remote-offer' ? await pc.createAnswer() : await pc.createOffer();
      return await setLocal({ type: made.type, sdp: withStereo(made.sdp, true) });
    } catch {
      // The other end's offer came in between, or this browser lets nothing be changed: as the browser thinks best.
      return setLocal();
    }
  };
  const setRemote = pc.setRemoteDescription.bind(pc);
  pc.setRemoteDescription = ({ type, sdp }) => setRemote({ type, sdp: sdp && withStereo(sdp, false) });
}

/** The description with `stereo=1` among Opus' parameters, or without. */
export function withStereo(sdp, stereo) {
  const opus = [...sdp.matchAll(/^a=rtpmap:(\d+) opus\/48000\/2\s*$/gim)].map(([, type]) => type);
  return sdp.replace(/^a=fmtp:(\d+) ([^\r\n]*)/gm, (line, type, format) => {
    if (!opus.includes(type)) return line;
    const others = format.split(';').map((parameter) => parameter.trim()).filter((parameter) => parameter && !/^stereo\s*=/i.test(parameter));
    return `a=fmtp:${type} ${[...others, stereo ? 'stereo=1' : 'stereo=0'].join(';')}`;
  });
}

/** Names what we send as one stream, so that the other end plays sound and picture in step. */
const OUR_STREAM = new MediaStream();

/** Between the other's offer and our answer: send on the transceivers it brought. */
export async function prepareAnswer(pc, tracks) {
  for (const transceiver of pc.getTransceivers()) {
    if (transceiver.direction === 'stopped') continue;
    transceiver.direction = 'sendrecv';
    transceiver.sender.setStreams?.(OUR_STREAM);
  }
  preferCodecs(pc);
  await applyTracks(pc, tracks);
}

/** Sends these tracks from now on, without a new offer. */
export async function applyTracks(pc, tracks) {
  const taken = new Set();
  for (const { receiver, sender, direction } of pc.getTransceivers()) {
    const { kind } = receiver.track;
    if (direction === 'stopped' || taken.has(kind)) continue;
    taken.add(kind);
    if (sender.track !== tracks[kind]) await sender.replaceTrack(tracks[kind]);
  }
}

/** H.264 first: the one video codec the desktop app and every browser with hardware share. */
function preferCodecs(pc) {
  const codecs = RTCRtpReceiver.getCapabilities?.('video')?.codecs ?? [];
  const rank = ({ mimeType, sdpFmtpLine = '' }) => {
    if (mimeType.toLowerCase() !== 'video/h264') return 3;
    if (!sdpFmtpLine.includes('packetization-mode=1')) return 2;
    return /profile-level-id=42e0/i.test(sdpFmtpLine) ? 0 : 1;
  };
  const ordered = codecs.map((codec, index) => [rank(codec), index, codec]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , codec]) => codec);
  if (ordered.length === 0) return;
  for (const transceiver of pc.getTransceivers()) {
    if (transceiver.receiver.track.kind === 'video') transceiver.setCodecPreferences?.(ordered);
  }
}

/** The server's list, without entries a browser would throw at. */
export function usable(iceServers) {
  if (!Array.isArray(iceServers)) return [];
  return iceServers.filter((server) => {
    const urls = [server?.urls].flat();
    return urls.length > 0 && urls.every((url) => typeof url === 'string' && /^(stun|turn)s?:/i.test(url));
  });
}

/** A few figures of the running connection, cumulative where getStats is. */
export async function figures(pc) {
  const result = { pair: null, rttMs: null, audioIn: null, videoIn: null, audioOut: null, videoOut: null };
  const report = await pc.getStats();
  for (const entry of report.values()) {
    if (entry.type === 'transport' && entry.selectedCandidatePairId) {
      const pair = report.get(entry.selectedCandidatePairId);
      result.pair = `${report.get(pair?.localCandidateId)?.candidateType}/${report.get(pair?.remoteCandidateId)?.candidateType}`;
      result.rttMs = pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000;
    } else if (entry.type === 'inbound-rtp' || entry.type === 'outbound-rtp') {
      const inbound = entry.type === 'inbound-rtp';
      const codec = report.get(entry.codecId)?.mimeType ?? null;
      const common = { codec, packets: inbound ? entry.packetsReceived : entry.packetsSent, bytes: inbound ? entry.bytesReceived : entry.bytesSent };
      if (entry.kind === 'video') {
        const frames = inbound ? entry.framesDecoded : entry.framesEncoded;
        const lost = inbound ? { lost: entry.packetsLost, freezes: entry.freezeCount, dropped: entry.framesDropped } : {};
        result[inbound ? 'videoIn' : 'videoOut'] = { ...common, ...lost, frames, width: entry.frameWidth, height: entry.frameHeight, fps: entry.framesPerSecond };
      } else {
        const level = inbound ? { level: entry.audioLevel, energy: entry.totalAudioEnergy, seconds: entry.totalSamplesDuration, concealed: entry.concealedSamples } : {};
        result[inbound ? 'audioIn' : 'audioOut'] = { ...common, ...level };
      }
    }
  }
  return result;
}
