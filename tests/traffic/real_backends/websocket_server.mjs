// A WebSocket server that gives every message back; `bye` makes it close the connection.

import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(process.env.MODULES)("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: true, maxPayload: 0 });
server.on("listening", () => console.error(`listening on 127.0.0.1:${server.address().port}`));
server.on("connection", (connection) => {
  connection.on("message", (message, binary) => {
    const text = binary ? undefined : message.toString();
    if (text === "bye") {
      connection.close(4000, "as you like");
    } else if (text === "ping me") {
      connection.once("pong", () => connection.send("pong"));
      connection.ping("are you there?");
    } else {
      connection.send(message, { binary });
    }
  });
});
