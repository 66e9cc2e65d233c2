/** The HTTP API as this page uses it: JSON in and out, errors as the sentence that a person can act on. */

/** What went wrong, from the API's problem+json. `field` names the input that caused it, as a dotted path. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly remedy: string;
  readonly field: string | null;

  constructor(init: { status: number; code?: string; detail?: string; remedy?: string; field?: string | null }) {
    super(init.detail ?? "Something went wrong.");
    this.status = init.status;
    this.code = init.code ?? "error";
    this.remedy = init.remedy ?? "";
    this.field = init.field ?? null;
  }
}

export type Query = Record<string, string | number | boolean | null | undefined | readonly string[]>;

let csrf = "";
let onSignedOut: () => void = () => undefined;

/** The token that changes carry beside the cookie; known once `/me` was read. */
export function setCsrf(token: string): void {
  csrf = token;
}

/** What to do when the session has ended, wherever that is noticed. */
export function whenSignedOut(action: () => void): void {
  onSignedOut = action;
}

export function url(path: string, query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    if (Array.isArray(value)) for (const each of value as readonly string[]) search.append(name, each);
    else search.set(name, String(value));
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as Record<string, unknown>;
    const text = (name: string) => (typeof body[name] === "string" ? (body[name] as string) : undefined);
    return new Problem({
      status: response.status,
      code: text("code"),
      detail: text("detail") ?? text("message") ?? text("title"),
      remedy: text("remedy"),
      field: text("field") ?? null,
    });
  } catch {
    return new Problem({ status: response.status, detail: `The server answered ${response.status} ${response.statusText}.`.trim() });
  }
}

export interface Options {
  query?: Query;
  body?: unknown;
  raw?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** The response to a request. Raises Problem for anything but 2xx, also when the server cannot be reached (status 0). */
export async function send(method: string, path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json", ...options.headers };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  let response: Response;
  try {
    response = await fetch(url(path, options.query), {
      method,
      headers,
      body: options.body !== undefined ? JSON.stringify(options.body) : (options.raw ?? null),
      credentials: "same-origin",
      signal: options.signal ?? null,
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem({ status: 0, code: "unreachable", detail: "The server cannot be reached.", remedy: "This page tries again by itself." });
  }
  if (response.ok) return response;
  if (response.status === 401) onSignedOut();
  throw await problemOf(response);
}

async function json<T>(method: string, path: string, options: Options): Promise<T> {
  const response = await send(method, path, options);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const get = <T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> => json<T>("GET", path, { query, signal });
export const post = <T>(path: string, body: unknown = {}, headers: Record<string, string> = {}): Promise<T> => json<T>("POST", path, { body, headers });
export const put = <T>(path: string, body: unknown = {}): Promise<T> => json<T>("PUT", path, { body });
export const patch = <T>(path: string, body: unknown = {}): Promise<T> => json<T>("PATCH", path, { body });
export const remove = <T>(path: string): Promise<T> => json<T>("DELETE", path, {});

/** A list's page: its items and the cursor of the next, null at the end. */
export interface Page<T> {
  items: T[];
  next: string | null;
}

/** All items of a list, page after page, up to `most`. `onPage` sees what has come so far. */
export async function all<T>(
  path: string,
  { query = {}, most = 10_000, signal, onPage }: { query?: Query; most?: number; signal?: AbortSignal; onPage?: (items: T[]) => void } = {},
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null = null;
  do {
    const page: Page<T> = await get<Page<T>>(path, { limit: 500, ...query, cursor }, signal);
    items.push(...page.items);
    cursor = page.next;
    onPage?.(items.slice());
  } while (cursor !== null && items.length < most);
  return items;
}

/** A segment of a path, from text that a person chose. */
export const seg = (text: string): string => encodeURIComponent(text);
