// The server: what the page asks of it, and how a refusal is told.

const KEY = "heartmula.key";

/** What the server refused, in its one line; 0 if it could not be reached. */
export class Refusal extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

/** Asks for a key, and comes back when the page is logged in; main.js says how. */
let askForKey = null;
export function whenKeyIsNeeded(body) { askForKey = body; }

async function send(method, path, body) {
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  try {
    return await fetch(path, {
      method, body: text, headers: text ? {"Content-Type": "application/json"} : {},
      keepalive: method === "DELETE",  // what is deleted last, when the page goes away
    });
  } catch {
    throw new Refusal(0, "The server cannot be reached.");
  }
}

async function valueOf(answer) {
  if (answer.status === 204) return null;
  const value = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, value?.error ?? `The server answers ${answer.status}.`);
  return value;
}

async function call(method, path, body) {
  let answer = await send(method, path, body);
  if (answer.status === 401) {
    await logInAgain();
    answer = await send(method, path, body);
  }
  return valueOf(answer);
}

// Many calls may find at once that the session is gone: one of them asks.
let loggingIn = null;
function logInAgain() {
  loggingIn ??= renew().finally(() => { loggingIn = null; });
  return loggingIn;
}

async function renew() {
  const key = sessionStorage.getItem(KEY);
  if (key === null) return askForKey();
  try {
    return await logIn(key);
  } catch (refusal) {
    if (refusal.status !== 401) throw refusal;
    sessionStorage.removeItem(KEY);
    return askForKey();
  }
}

export async function logIn(key) {
  await valueOf(await send("POST", "v1/session", {key}));
  sessionStorage.setItem(KEY, key);
}

export async function logOut() {
  sessionStorage.removeItem(KEY);
  await send("DELETE", "v1/session");
}

/** Makes sure that the server knows us; whether it asks for keys at all. */
export async function session() {
  const {needs_key: needsKey, logged_in: loggedIn} = await valueOf(await send("GET", "v1/session"));
  if (needsKey && !loggedIn) await logInAgain();
  return needsKey;
}

/** What /ready says; 503 is an answer here, too. */
export const ready = async () => (await send("GET", "ready")).json();

/** A body with a seed: 64 bits are more than a number of JavaScript holds, so it goes in as text. */
const withSeed = ({seed, ...body}) => `{"seed":${BigInt(seed)},${JSON.stringify(body).slice(1)}`;

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
const of = (id) => `v1/songs/${encodeURIComponent(id)}`;

export const limits = () => call("GET", "v1/limits");
export const lint = (texts) => call("POST", "v1/lint", texts);
export const songs = (filter) => call("GET", `v1/songs?${query(filter)}`);
export const song = (id) => call("GET", of(id));
export const make = (request) => call("POST", "v1/songs", withSeed(request));
export const change = (id, fields) => call("PATCH", of(id), fields);
export const cancel = (id) => call("POST", `${of(id)}/cancel`);
export const remove = (id) => call("DELETE", of(id));

export const audioOf = (id, format) => `${of(id)}/audio?format=${format}`;
export const streamOf = (id) => `${of(id)}/stream?format=pcm`;
export const pictureOf = (id) => `${of(id)}/spectrogram.png`;
export const codesOf = (id) => `${of(id)}/codes`;
export const requestOf = (id) => `${of(id)}/request`;
export const EVENTS = "v1/events";
