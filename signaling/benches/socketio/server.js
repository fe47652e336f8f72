// The yardstick: socket.io with rooms of two and the same events, nothing else.
'use strict';
const { createServer } = require('node:http');
const { Server } = require('socket.io');

const http = createServer();
// As our server: no compression, small messages only.
const io = new Server(http, { transports: ['websocket'], serveClient: false, maxHttpBufferSize: 65536 });
io.on('connection', (socket) => {
  let joined = null;
  socket.on('create or join', (room) => {
    if (joined !== null || typeof room !== 'string') return;
    const there = io.sockets.adapter.rooms.get(room)?.size ?? 0;
    if (there >= 2) return socket.emit('full', room);
    joined = room;
    socket.join(room);
    if (there === 0) return socket.emit('created', room, socket.id);
    socket.to(room).emit('join', room);
    socket.emit('joined', room, socket.id);
    io.to(room).emit('ready');
  });
  socket.on('message', (message) => {
    if (joined !== null) socket.to(joined).emit('message', message);
  });
});
http.listen(0, '127.0.0.1', () => console.log(`Serving on http://127.0.0.1:${http.address().port}`));
