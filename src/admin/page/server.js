// The server behind the page: requests, the token if one is required, and the stream of events.

const KEPT = "sidegate-token";

function headers() {
  const token = sessionStorage.getItem(KEPT);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

let asking;

/** Asks for the token, once for all who wait for it. */
function ask(wrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask");
    const field = document.getElementById("token");
    document.getElementById("ask-wrong").textContent = wrong ? "The token is wrong." : "";
    field.value = "";
    dialog.addEventListener("cancel", (event) => event.preventDefault(), { once: true });
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEPT, field.value.trim());
      field.value = "";
      asking = undefined;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function send(path, options = {}) {
  for (;;) {
    const shown = sessionStorage.getItem(KEPT);
    const answer = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
    if (answer.status !== 401) return answer;
    if (sessionStorage.getItem(KEPT) === shown) await ask(Boolean(shown));
  }
}

export async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  const answer = await send(path + search);
  const body = await answer.text();
  if (!answer.ok) throw new Error(body.startsWith("{") ? JSON.parse(body).error : body.trim());
  return JSON.parse(body);
}

export async function explain(question) {
  const answer = await send("/api/explain", { method: "POST", body: JSON.stringify(question) });
  const body = await answer.text();
  if (!answer.ok) throw new Error(body.startsWith("{") ? JSON.parse(body).error : body.trim());
  return JSON.parse(body);
}

/** The only thing that is done: everything is read anew. */
export async function reload() {
  const { page } = await get("/api/session");
  const answer = await send("/reload", { method: "POST", headers: { "X-Sidegate-Page": page } });
  const body = await answer.text();
  const said = body.startsWith("{") ? JSON.parse(body) : { error: body.trim() };
  if (said.outcome) return said;
  throw new Error(said.error);
}

let policy;

/** The policy in force, asked for once for each generation. */
export async function sources(generation) {
  if (!policy || policy.generation !== generation) policy = await get("/api/policy");
  return policy;
}

/** What happens, told again and again; where the connection breaks it is made again. */
export async function listen(tell, lost) {
  for (;;) {
    try {
      const answer = await send("/api/events");
      if (answer.ok) await read(answer.body.pipeThrough(new TextDecoderStream()).getReader(), tell);
    } catch {
      // The page shows the failure below and tries again.
    }
    lost();
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

async function read(reader, tell) {
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const data = text.slice(0, end).split("\n").find((line) => line.startsWith("data: "));
      text = text.slice(end + 2);
      if (data) tell(JSON.parse(data.slice(6)));
    }
  }
}
