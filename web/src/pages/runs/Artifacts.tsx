/** The files of a run, with a preview of pictures, text and tables. What is previewed is never run and never markup. */
import { IconDownload, IconFile, IconFolder } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Skeleton } from "@mantine/core";
import { send } from "~/api/client";
import { artifactsQuery, artifactUrl } from "~/api/runs";
import type { Artifact } from "~/api/types";
import { bytes } from "~/format/number";
import { LogView } from "~/log/LogView";
import { Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { csv, kindOf } from "./preview";
import grid from "~/shell/Grid.module.css";
import css from "./Artifacts.module.css";

export function Artifacts({ run, path, onPath }: { run: string; path: string; onPath: (path: string) => void }) {
  const isFile = path !== "" && !path.endsWith("/");
  const folder = isFile ? path.split("/").slice(0, -1).join("/") : path.replace(/\/$/, "");
  const query = useQuery(artifactsQuery(run, folder));
  const crumbs = folder ? folder.split("/") : [];
  return (
    <div className={grid.grid}>
      <Panel className={grid.w4 ?? ""} flush title={
        <div className={css.crumbs}>
          <button type="button" onClick={() => onPath("")}>artifacts</button>
          {crumbs.map((name, i) => <span key={i}>/ <button type="button" onClick={() => onPath(`${crumbs.slice(0, i + 1).join("/")}/`)}>{name}</button></span>)}
        </div>
      }>
        <Loaded query={query} height={220}>
          {(items) => items.length === 0 ? <Empty title="No artifacts" command="narf.artifact('model.pt')">Files that the script saves with this line, with MLflow or with Lightning's checkpoints show up here.</Empty> : (
            <ul className={css.files}>
              {[...items].sort((a, b) => Number(b.is_folder) - Number(a.is_folder) || a.path.localeCompare(b.path)).map((item) => <File key={item.path} item={item} active={item.path === path} onOpen={() => onPath(item.is_folder ? `${item.path}/` : item.path)} />)}
            </ul>
          )}
        </Loaded>
      </Panel>
      <div className={grid.w8}>
        {isFile ? <Preview run={run} path={path} size={query.data?.find((item) => item.path === path)?.size ?? null} /> : <Panel><Empty title="Choose a file">Pictures, text and tables are shown here; anything else can be downloaded.</Empty></Panel>}
      </div>
    </div>
  );
}

function File({ item, active, onOpen }: { item: Artifact; active: boolean; onOpen: () => void }) {
  const Icon = item.is_folder ? IconFolder : IconFile;
  return (
    <li>
      <button type="button" onClick={onOpen} aria-current={active || undefined}>
        <Icon size={15} stroke={1.6} aria-hidden />
        <span className="truncate">{item.path.split("/").at(-1)}</span>
        <span className="dim">{item.is_folder ? "" : bytes(item.size)}</span>
      </button>
    </li>
  );
}

const MOST = 2 << 20;

function Preview({ run, path, size }: { run: string; path: string; size: number | null }) {
  const kind = kindOf(path);
  const address = artifactUrl(run, path);
  const readable = kind !== "image" && kind !== "other" && (size ?? 0) <= MOST;
  const query = useQuery({ queryKey: ["artifact", run, path], enabled: readable, queryFn: async ({ signal }) => (await send("GET", address, { signal, headers: { Accept: "*/*" } })).text() });
  const name = path.split("/").at(-1) ?? path;
  const download = <a className="link" href={address} download={name}><IconDownload size={13} style={{ verticalAlign: -2 }} aria-hidden /> Download</a>;
  return (
    <Panel title={<h2 className="truncate">{name}</h2>} note={bytes(size)} actions={download} flush>
      {kind === "image" ? <div className={css.picture}><img src={address} alt={name} /></div>
        : !readable ? <Empty title={kind === "other" ? "No preview of this kind" : "Too large to preview"} action={download}>{kind === "other" ? "Download it to look at it." : `Only files up to ${bytes(MOST)} are shown here.`}</Empty>
        : query.error ? <Failure error={query.error} />
        : query.data === undefined ? <div style={{ padding: 14 }}><Skeleton height={240} /></div>
        : kind === "table" ? <TableOf text={query.data} tab={path.endsWith(".tsv")} />
        : <LogView lines={(kind === "json" ? pretty(query.data) : query.data).split("\n")} height={520} label={name} />}
    </Panel>
  );
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function TableOf({ text, tab }: { text: string; tab: boolean }) {
  const [head = [], ...rows] = csv(text, tab ? "\t" : ",", 501);
  return (
    <div className={css.sheet} tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead><tr>{head.map((cell, i) => <th key={i}>{cell}</th>)}</tr></thead>
        <tbody>{rows.slice(0, 500).map((row, i) => <tr key={i}>{row.map((cell, j) => <td key={j} className={Number.isFinite(Number(cell)) && cell !== "" ? "num" : undefined}>{cell}</td>)}</tr>)}</tbody>
      </table>
    </div>
  );
}
