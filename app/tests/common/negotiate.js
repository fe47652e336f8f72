// Two ends of /negotiation.js with real connections and a line between them that takes its time.
// What the tests do with them stands in page_negotiation.rs.
(async () => {
  const { Negotiation } = await import('/negotiation.js');
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  /** An end; `wire(message)` carries what it says. */
  function end(name, wire) {
    const self = { name, said: [], pc: null, opened: 0, faults: [], byes: 0, hellos: [] };
    self.negotiation = new Negotiation({
      send: (message) => {
        self.said.push(message);
        wire(structuredClone(message));
      },
      hello: () => ({ type: 'hello', app: 'test', version: 1, name, features: [] }),
      state: () => ({ type: 'state', audio: true, video: true, screen: false }),
      makePeer: (offering) => {
        self.opened += 1;
        self.pc = new RTCPeerConnection();
        if (offering) for (const kind of ['audio', 'video']) self.pc.addTransceiver(kind);
        return self.pc;
      },
      prepareAnswer: async (pc) => {
        for (const transceiver of pc.getTransceivers()) transceiver.direction = 'sendrecv';
      },
      dropPeer: (pc) => pc.close(),
      onHello: ({ name: theirs }) => self.hellos.push(theirs),
      onState: () => {},
      onPictures: () => {},
      onBye: () => { self.byes += 1; },
      onFault: (error) => self.faults.push(String(error)),
    });
    self.offers = () => self.said.filter(({ type }) => type === 'offer').length;
    return self;
  }

  /** Two ends whose messages take `delay` ms each way, in order. */
  function pair(delay) {
    const line = (to) => {
      let last = Promise.resolve();
      return (message) => {
        last = Promise.all([last, wait(delay)]).then(() => to().negotiation.receive(message));
      };
    };
    const a = end('a', line(() => b));
    const b = end('b', line(() => a));
    return { a, b };
  }

  async function until(condition, limit = 10_000) {
    for (const stop = Date.now() + limit; Date.now() < stop; await wait(20)) if (condition()) return true;
    return false;
  }

  const up = ({ a, b }) => until(() => [a, b].every(({ pc }) => pc?.connectionState === 'connected' && pc.signalingState === 'stable'));
  window.bench = { end, pair, until, up, wait };
  return true;
})()
