// Argument: the stage, `main` or `drain`. Brings Node's clients into every situation of deploy/clients.md; prints and reads the
// environment as situations.py does.

import { readFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { createRequire } from "node:module";

const { env } = process;
const require = createRequire(env.MODULES);
const { Agent, fetch, request } = require("undici");
const grpc = require("@grpc/grpc-js");
const LIMIT = 60_000;
const SIZES = { "upload 70 kB": 70_000, "upload 1 MB": 1_000_000, "upload 10 MB": 10_000_000 };

const tls = (who) => ({
  ca: readFileSync(env.CA),
  ...(who ? { cert: readFileSync(`${env[who]}.crt`), key: readFileSync(`${env[who]}.key`) } : {}),
});

async function say(client, situation, act) {
  let result;
  try {
    result = await act();
  } catch (error) {
    result = `${error.name}: ${error.cause?.message ?? error.message}`.split("\n")[0].slice(0, 120);
  }
  console.log(`${client} | ${situation} | ${result}`);
}

// undici, by its two interfaces, and the http2 of Node: `(who) => ({ get, post, close })`.
const withAgent = (allowH2, ask) => (who) => {
  const dispatcher = new Agent({ connect: tls(who), allowH2 });
  return {
    get: (url) => ask(url, { method: "GET", dispatcher }),
    post: (url, size) => ask(url, { method: "POST", body: Buffer.alloc(size, "x"), dispatcher }),
    close: () => dispatcher.destroy(),
  };
};
const byFetch = async (url, options) => {
  const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(LIMIT) });
  await answer.text();
  return answer.status;
};
const byRequest = async (url, options) => {
  const answer = await request(url, { ...options, signal: AbortSignal.timeout(LIMIT) });
  await answer.body.text();
  return answer.statusCode;
};
const withHttp2 = (who) => {
  let session;
  const ask = (url, method, body) =>
    new Promise((resolve, reject) => {
      const { origin, pathname } = new URL(url);
      if (!session || session.closed || session.destroyed) {
        session = connectHttp2(origin, tls(who));
        session.on("error", reject);
      }
      const stream = session.request({ ":method": method, ":path": pathname }, { endStream: !body });
      let status;
      stream.on("response", (headers) => (status = headers[":status"]));
      stream.on("error", (error) => (status ? resolve(status) : reject(error)));
      stream.on("end", () => resolve(status));
      stream.setTimeout(LIMIT, () => reject(new Error("timed out")));
      stream.resume();
      if (body) stream.end(body);
    });
  return {
    get: (url) => ask(url, "GET"),
    post: (url, size) => ask(url, "POST", Buffer.alloc(size, "x")),
    close: () => session?.destroy(),
  };
};
const CLIENTS = {
  "undici fetch": withAgent(false, byFetch),
  "undici fetch, HTTP/2": withAgent(true, byFetch),
  "undici request": withAgent(false, byRequest),
  "undici request, HTTP/2": withAgent(true, byRequest),
  "Node http2, HTTP/2": withHttp2,
};

async function once(open, who, act) {
  const client = open(who);
  try {
    return await act(client);
  } finally {
    client.close();
  }
}

function many(statuses) {
  const others = statuses.filter((status) => status !== 200);
  return `${statuses.length - others.length} × 200${others.length ? `, others ${[...new Set(others)]}` : ""}`;
}

function callGrpc(who, size) {
  const files = tls(who);
  const trust = grpc.credentials.createSsl(files.ca, files.key ?? null, files.cert ?? null);
  const client = new grpc.Client(env.URL.replace("https://", ""), trust);
  const plain = (bytes) => bytes;
  return new Promise((resolve) => {
    const deadline = Date.now() + LIMIT;
    client.makeUnaryRequest("/shop.Events/Publish", plain, plain, Buffer.alloc(size, "x"), { deadline }, (error) =>
      resolve(error ? grpc.status[error.code] : "OK"),
    );
  }).finally(() => client.close());
}

async function main() {
  for (const [name, open] of Object.entries(CLIENTS)) {
    for (const [situation, size] of Object.entries(SIZES)) {
      await say(name, situation, () => once(open, "CONSUMER", (client) => client.post(`${env.URL}/events`, size)));
    }
    await say(name, "401 to an upload", () => once(open, null, (client) => client.post(`${env.URL}/events`, 70_000)));
    await say(name, "103", () => once(open, "PRODUCER", (client) => client.get(`${env.URL}/early`)));
    await say(name, "age within a request", () =>
      once(open, "PRODUCER", async (client) => {
        const first = await client.get(`${env.AGED}/slow`);
        return `${first}, ${await client.get(`${env.AGED}/events`)}`;
      }),
    );
    if (name.includes("HTTP/2")) {
      await say(name, "burst", () =>
        once(open, "PRODUCER", async (client) => {
          const asked = Array.from({ length: 1000 }, () => client.get(`${env.URL}/events`));
          return many((await Promise.allSettled(asked)).map((done) => done.value ?? String(done.reason)));
        }),
      );
    }
  }
  for (const [situation, size] of Object.entries(SIZES)) {
    await say("grpc-js", situation, () => callGrpc("CONSUMER", size));
  }
  await say("grpc-js", "401 to an upload", () => callGrpc(null, 70_000));
}

const drain = () =>
  Promise.all(
    Object.entries(CLIENTS).map(([name, open]) =>
      say(name, "drain within a request", () =>
        once(open, "PRODUCER", (client) => client.get(`${env.DRAINED}/gated`)),
      ),
    ),
  );

await { main, drain }[process.argv[2]]();
process.exit(0);
