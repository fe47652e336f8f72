// A story with real clients: node story.js URL TRANSPORT FIRST SECOND, or node story.js URL TRANSPORT echo CLIENT ROOM.
// Ends with code 0 when all went as it should; else says what did not.
'use strict';

const assert = require('assert');

const [url, transport, first, second, place] = process.argv.slice(2);
const TRANSPORTS = {
  polling: ['polling'],
  upgrade: ['polling', 'websocket'],
  websocket: ['websocket'],
};
const LIMIT = 20_000;
const MESSAGES = 500;

/** A client whose events wait in line to be asked for. */
class Guest {
  constructor(name) {
    const io = require(name);
    const connect = io.io ?? io.connect ?? io;
    this.name = name;
    this.events = [];
    this.waiting = [];
    this.socket = connect(url, { transports: TRANSPORTS[transport], forceNew: true, reconnection: false });
    for (const event of ['connect', 'created', 'join', 'joined', 'full', 'ready', 'message', 'log', 'ipaddr', 'disconnect']) {
      this.socket.on(event, (...list) => this.take([event, ...list]));
    }
    for (const event of ['connect_error', 'error']) {
      this.socket.on(event, (error) => this.take([event, String(error)]));
    }
  }

  take(event) {
    const next = this.waiting.shift();
    if (next) next(event);
    else this.events.push(event);
  }

  async next() {
    if (this.events.length) return this.events.shift();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.name}: nothing more came`)), LIMIT);
    });
    const event = new Promise((resolve) => this.waiting.push(resolve));
    try {
      return await Promise.race([event, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async expect(...wanted) {
    const event = await this.next();
    assert.deepStrictEqual(event.slice(0, wanted.length), wanted, `${this.name}: ${JSON.stringify(event)}`);
    return event;
  }

  /** Nothing was said before the answer to something meaningless. */
  async expectNothing() {
    this.socket.emit('what?');
    const [, array] = await this.expect('log');
    assert.match(array[1], /There is no event/);
  }

  async connected() {
    await this.expect('connect');
    const engine = this.socket.io.engine;
    if (transport === 'upgrade') {
      const end = Date.now() + LIMIT;
      while (engine.transport.name !== 'websocket') {
        assert(Date.now() < end, `${this.name}: never upgraded`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
    assert.strictEqual(engine.transport.name, transport === 'polling' ? 'polling' : 'websocket');
    return this;
  }

  join(room) {
    this.socket.emit('create or join', room);
  }

  say(message) {
    this.socket.emit('message', message);
  }
}

/** Numbers from one to the other, none lost, none swapped. */
async function count(from, to) {
  for (let number = 0; number < MESSAGES; number += 1) from.say(number);
  for (let number = 0; number < MESSAGES; number += 1) await to.expect('message', number);
}

async function story() {
  const room = `茶室-é-${process.pid}`;
  const one = await new Guest(first).connected();
  one.join(room);
  const created = await one.expect('created', room);
  assert.strictEqual(created.length, 3);
  // Joined before it is known that the upgrade has come to its end.
  const other = new Guest(second);
  other.join(room);
  await other.connected();
  assert.deepStrictEqual(await one.next(), ['join', room]);
  const joined = await other.expect('joined', room);
  assert.strictEqual(joined.length, 3);
  assert.deepStrictEqual(await one.next(), ['ready']);
  assert.deepStrictEqual(await other.next(), ['ready']);

  for (const message of ['got user media', { type: 'offer', sdp: 'v=0\r\n' }, [1, [2]], null, '茶 \u2028 🍵']) {
    other.say(message);
    assert.deepStrictEqual(await one.next(), ['message', message]);
    one.say(message);
    assert.deepStrictEqual(await other.next(), ['message', message]);
  }
  await count(one, other);
  await count(other, one);
  one.say('x'.repeat(60_000));
  assert.strictEqual((await other.expect('message'))[1].length, 60_000);

  const third = await new Guest(second).connected();
  third.join(room);
  assert.deepStrictEqual(await third.next(), ['full', room]);
  third.say('bye');
  third.socket.emit('create or join', { toString: 'x' });
  const [, refused] = await third.expect('log');
  assert.match(refused[1], /“create or join” wants the room's name/);
  third.socket.disconnect();
  await one.expectNothing();
  await other.expectNothing();

  // A reload, as the tutorial's page does it: each time whoever stays hears of it once.
  let [stays, leaves] = [one, other];
  for (let reload = 0; reload < 4; reload += 1) {
    leaves.say('bye');
    assert.deepStrictEqual(await stays.next(), ['message', 'bye']);
    await stays.expect('created', room);
    leaves.socket.disconnect();
    const again = await new Guest(leaves.name).connected();
    again.join(room);
    await again.expect('joined', room);
    await again.expect('ready');
    assert.deepStrictEqual(await stays.next(), ['join', room]);
    assert.deepStrictEqual(await stays.next(), ['ready']);
    again.say(reload);
    assert.deepStrictEqual(await stays.next(), ['message', reload]);
    [stays, leaves] = [again, stays];
  }
  // Gone without a word.
  leaves.socket.io.engine.close();
  assert.deepStrictEqual(await stays.next(), ['message', 'bye']);
  await stays.expect('created', room);
  stays.socket.disconnect();
}

async function echo() {
  const guest = await new Guest(second).connected();
  guest.join(place);
  for (let event = await guest.next(); ; event = await guest.next()) {
    if (event[0] !== 'message') continue;
    if (event[1] === 'bye') break;
    guest.say({ echo: event[1] });
  }
  await guest.expect('created', place);
  guest.socket.disconnect();
}

(first === 'echo' ? echo() : story()).then(
  () => process.exit(0),
  (error) => {
    console.error(error.stack);
    process.exit(1);
  },
);
