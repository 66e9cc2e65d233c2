/** Sends a folder's files as a code snapshot: contents the server has already are not sent again. */
import { post, seg, send } from "~/api/client";
import { sha256 } from "./sha256";

const SKIP = /(^|\/)(\.git|\.venv|venv|node_modules|__pycache__|\.mypy_cache|\.ruff_cache|\.pytest_cache|\.ipynb_checkpoints|mlruns|lightning_logs|wandb)(\/|$)|\.(pyc|pyo)$/;

export interface Picked {
  path: string;
  file: File;
}

/** The files of a picked folder that are code: without caches, environments and version control. */
export function codeOf(files: Iterable<File>): Picked[] {
  const picked: Picked[] = [];
  for (const file of files) {
    const path = file.webkitRelativePath ? file.webkitRelativePath.split("/").slice(1).join("/") : file.name;
    if (path && !SKIP.test(path)) picked.push({ path, file });
  }
  return picked.sort((a, b) => a.path.localeCompare(b.path));
}

/** The snapshot's id. */
export async function upload(project: string, picked: readonly Picked[], onProgress: (share: number) => void = () => undefined): Promise<string> {
  const base = `/api/v1/projects/${seg(project)}`;
  const contents = new Map<string, Uint8Array<ArrayBuffer>>();
  const files = [];
  for (const { path, file } of picked) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const digest = await sha256(bytes);
    contents.set(digest, bytes);
    files.push({ path, sha256: digest, size: bytes.length, mode: 0o644 });
  }
  const { missing } = await post<{ missing: string[] }>(`${base}/snapshots/check`, { files });
  for (const [i, digest] of missing.entries()) {
    await send("PUT", `${base}/objects/${digest}`, { raw: new Blob([contents.get(digest) ?? new Uint8Array()]), headers: { "Content-Type": "application/octet-stream" } });
    onProgress((i + 1) / missing.length);
  }
  return (await post<{ id: string }>(`${base}/snapshots`, { files })).id;
}
