// A function for a browser that cannot play a clip as its camera: pictures with the strip, drawn.
() => {
  const devices = navigator.mediaDevices;
  if (!devices) return;
  const real = devices.getUserMedia.bind(devices);
  const [width, height] = [640, 360];

  /** The strip of docs/testing.md above a bar that moves. */
  function draw(context, number) {
    const bits = [1, 0];
    for (let bit = 31; bit >= 0; bit -= 1) bits.push((number >>> bit) & 1);
    let checksum = 0;
    for (let nibble = 0; nibble < 8; nibble += 1) checksum ^= (number >>> (4 * nibble)) & 15;
    for (let bit = 3; bit >= 0; bit -= 1) bits.push((checksum >>> bit) & 1);
    bits.push(1, 0);
    context.fillStyle = '#357';
    context.fillRect(0, 0, width, height);
    context.fillStyle = '#fc6';
    context.fillRect((number * 16) % width, 100, 60, 200);
    bits.forEach((bit, cell) => {
      context.fillStyle = bit ? '#fff' : '#000';
      context.fillRect(cell * width / 40, 0, width / 40, height / 18);
    });
  }

  devices.getUserMedia = async (wanted) => {
    const stream = await real(wanted);
    if (!stream.getVideoTracks().length) return stream;
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    let number = 0;
    setInterval(() => draw(context, number += 1), 50);
    stream.getVideoTracks().forEach((track) => {
      track.stop();
      stream.removeTrack(track);
    });
    stream.addTrack(canvas.captureStream().getVideoTracks()[0]);
    return stream;
  };
}
