// Room names: what the server accepts, and one nobody guesses.

/** 1-64 letters and digits of any script, `-`, `_`, `.` (the server's rule, after NFC and lower-casing). */
const VALID = /^[\p{Alphabetic}\p{M}\p{N}\-_.]{1,64}$/u;

/** The room's canonical name, or null if it is none. */
export function roomName(typed) {
  const name = typed.trim().replace(/\s+/g, '-').normalize('NFC').toLowerCase();
  return VALID.test(name) ? name : null;
}

/** The room in a path `/room/NAME`, or null. */
export function roomOfPath(path) {
  const match = /^\/room\/([^/]+)\/?$/.exec(path);
  if (!match) return null;
  try {
    return roomName(decodeURIComponent(match[1]));
  } catch {
    return null; // a stray % in the address
  }
}

/** A link to a room elsewhere: with the server's fingerprint and its access token, if it told them. */
export function inviteLink({ origin, hash }, room) {
  const kept = hash.slice(1).split('&').filter((part) => /^(fp=[\w-]{43}|token=[\w.~-]{8,256})$/.test(part));
  return `${origin}/room/${encodeURIComponent(room)}${kept.length ? `#${kept.join('&')}` : ''}`;
}

/** What was typed into the room field: a name, a link to this server, or a link to another one. */
export function parseRoom(typed, origin) {
  if (/^(https?|visavis):\/\//i.test(typed.trim())) {
    try {
      const url = new URL(typed.trim().replace(/^visavis:/i, 'https:'));
      const room = roomOfPath(url.pathname);
      if (!room) return null;
      return url.origin === origin ? { room } : { elsewhere: inviteLink(url, room) };
    } catch {
      return null;
    }
  }
  const room = roomName(typed);
  return room && { room };
}

/** A proposed name: 64 random bits as four pronounceable words of five letters (proquints). */
export function proposeRoom() {
  const consonants = 'bdfghjklmnprstvz';
  const vowels = 'aiou';
  const words = crypto.getRandomValues(new Uint16Array(4));
  return Array.from(words, (bits) =>
    consonants[bits >> 12] + vowels[(bits >> 10) & 3] + consonants[(bits >> 6) & 15] + vowels[(bits >> 4) & 3] + consonants[bits & 15],
  ).join('-');
}
