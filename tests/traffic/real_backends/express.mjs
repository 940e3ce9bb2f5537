// An application as Express has it, and the files of the folder that it is given.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { gzipSync } from "node:zlib";

const express = createRequire(process.env.MODULES)("express");
const app = express();
const events = ["data: 1\n\n", "id: 2\ndata: 2\n\n", ": the end\n\n"];
const bytes = Buffer.from(Uint8Array.from({ length: 256 }, (_, byte) => byte));
const download = Buffer.concat(Array(16 * 1024).fill(bytes));

app.all("/echo/*", async (request, response) => {
  const hash = createHash("sha256");
  let length = 0;
  for await (const part of request) {
    hash.update(part);
    length += part.length;
  }
  // Of several fields of one name their values in order.
  const headers = Object.fromEntries(Object.entries(request.headersDistinct).map(([name, all]) => [name, all.join(", ")]));
  const query = request.originalUrl.split("?").slice(1).join("?");
  const path = `/echo/${request.params[0]}`;
  response.json({ method: request.method, path, query, headers, length, sha256: hash.digest("hex") });
});
app.get("/old", (_, response) => response.redirect("/echo/new?x=1"));
app.get("/cookies", (_, response) => response.cookie("a", "1", { httpOnly: true }).cookie("b", "2").send("two"));
app.get("/gzip", (_, response) => response.set("Content-Encoding", "gzip").send(gzipSync("event ".repeat(5000))));
app.get("/entity", (_, response) => response.set("ETag", '"v1"').send("the first version"));
app.get("/empty", (_, response) => response.status(204).end());
app.get("/download", (_, response) => response.send(download));
app.get("/stream", (_, response) => {
  response.set("Content-Type", "text/event-stream");
  events.forEach((event) => response.write(event));
  response.end();
});
app.post("/early", (_, response) => response.status(413).set("Connection", "close").send("too large"));
app.get("/fail", () => {
  throw new Error("on purpose");
});
app.get("/trailers", (_, response) => {
  response.set("Trailer", "X-Checksum").write("body");
  response.addTrailers({ "X-Checksum": "17" });
  response.end();
});
app.get("/hints", (_, response) => {
  response.writeEarlyHints({ link: "</style.css>; rel=preload" });
  response.send("after the hints");
});
app.use(express.static(process.env.SITE));

const server = createServer(app);
// The usual time is 5 s.
server.keepAliveTimeout = Number(process.env.KEEP_ALIVE_MILLISECONDS ?? server.keepAliveTimeout);
server.listen(0, "127.0.0.1", () => console.error(`listening on 127.0.0.1:${server.address().port}`));
