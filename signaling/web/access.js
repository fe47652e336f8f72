// The access token of a closed server: the link brought it, after `#` (so that it is not sent with
// every request, nor logged on the way) or as `?token=`. It is passed on with every link made here.

const given = new URLSearchParams(location.hash.slice(1)).get('token') ?? new URLSearchParams(location.search).get('token');

/** What a server accepts as one. */
const token = given !== null && /^[\w.~-]{8,256}$/.test(given) ? given : null;

/** The address for the server's own eyes. */
export function withToken(url) {
  return token ? `${url}?token=${token}` : url;
}

/** What a link to a room here ends with: the rest of our own link's fragment is kept too. */
export function fragment() {
  const parts = location.hash.slice(1).split('&').filter((part) => part !== '' && !part.startsWith('token='));
  if (token) parts.push(`token=${token}`);
  return parts.length ? `#${parts.join('&')}` : '';
}
