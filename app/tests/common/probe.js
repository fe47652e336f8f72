// Looks at #remoteVideo from inside the page: the strip's number, and the loudness that arrives.
(() => {
  if (window.probe) return true;
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d', { willReadFrequently: true });

  /** The number in the strip of the picture shown now, or null. */
  function number() {
    const video = document.getElementById('remoteVideo');
    const { videoWidth: width, videoHeight: height } = video;
    if (!width || !height) return null;
    canvas.width = width;
    canvas.height = height;
    context.drawImage(video, 0, 0);
    const row = context.getImageData(0, Math.floor(height / 36), width, 1).data;
    const level = (cell) => {
      const at = 4 * Math.floor((cell + 0.5) * width / 40);
      return 0.299 * row[at] + 0.587 * row[at + 1] + 0.114 * row[at + 2];
    };
    const white = (level(0) + level(38)) / 2;
    const black = (level(1) + level(39)) / 2;
    if (white - black < 60) return null;
    const bit = (cell) => (level(cell) > (white + black) / 2 ? 1 : 0);
    let value = 0;
    for (let cell = 2; cell < 34; cell += 1) value = (value * 2 + bit(cell)) >>> 0;
    let checksum = 0;
    for (let nibble = 0; nibble < 8; nibble += 1) checksum ^= (value >>> (4 * nibble)) & 15;
    const read = bit(34) * 8 + bit(35) * 4 + bit(36) * 2 + bit(37);
    return read === checksum ? value : null;
  }

  const seen = [];
  setInterval(() => {
    const value = number();
    if (value !== null && value !== seen.at(-1)?.value) seen.push({ value, at: Date.now() });
    if (seen.length > 1000) seen.shift();
  }, 20);

  window.probe = {
    number,
    /** The different numbers seen since a time, in the order they were shown. */
    since: (time) => seen.filter(({ at }) => at >= time).map(({ value }) => value),
    seen: () => seen.slice(),
  };
  return true;
})()
