// Arguments: METHOD URL CA [CERTIFICATE KEY]. Prints the HTTP version, the status and the reason; the client is the fetch of
// undici, because the fetch of Node cannot present a certificate. The environment variable `HTTP` is 1 or 2.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Agent, fetch } = createRequire(process.env.MODULES)("undici");
const [method, url, ca, certificate, key] = process.argv.slice(2);
const connect = { ca: readFileSync(ca) };
if (certificate) {
  Object.assign(connect, { cert: readFileSync(certificate), key: readFileSync(key) });
}
const two = process.env.HTTP === "2";
const dispatcher = new Agent({ connect, allowH2: two });
const body = method === "POST" ? "x".repeat(1000) : undefined;
const answer = await fetch(url, { method, body, dispatcher, signal: AbortSignal.timeout(20_000) });
const problem = answer.headers.get("content-type") === "application/problem+json";
const reason = problem ? (await answer.json()).reason : (await answer.text(), "-");
console.log(two ? "HTTP/2" : "HTTP/1.1", answer.status, reason);
await dispatcher.close();
