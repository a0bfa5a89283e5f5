// Reference server: Socket.IO with a room for each channel and ioredis, as the documents of both show it.
//
// A delivery is the event "location" with the entry as an object. Socket.IO encodes it once per room. What a slow
// client does not read stays in memory until its heartbeat (25 s + 20 s) closes it.
"use strict";

const { createServer } = require("node:http");
const { parseArgs } = require("node:util");
const { Redis } = require("ioredis");
const { Server } = require("socket.io");

const { values } = parseArgs({
  options: {
    port: { type: "string" },
    redis: { type: "string" },
    users: { type: "string" },
    friends: { type: "string", default: "40" },
  },
});
const users = Number(values.users);
const friends = Number(values.friends);
const [redisHost, redisPort] = values.redis.split(":");

// The users next to this one: half of the friends on either side, modulo users.
function channelsOf(user) {
  const channels = [];
  for (let distance = 1; distance <= friends / 2; distance++) {
    channels.push(`loc:${(user + distance) % users}`, `loc:${(user - distance + users) % users}`);
  }
  return channels;
}

async function main() {
  const httpServer = createServer();
  const io = new Server(httpServer, { transports: ["websocket"], serveClient: false });
  io.on("connection", (socket) => {
    socket.join(channelsOf(Number(socket.handshake.query.user)));
    socket.emit("subscribed");
  });

  const subscriber = new Redis({ host: redisHost, port: Number(redisPort) });
  subscriber.on("message", (channel, entry) => io.to(channel).emit("location", JSON.parse(entry)));
  await subscriber.subscribe(...Array.from({ length: users }, (_, user) => `loc:${user}`));
  httpServer.listen(Number(values.port), "127.0.0.1", () => console.log("ready"));
}

main();
