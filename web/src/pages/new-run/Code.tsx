/** Where the code of a run or a study comes from: a folder of this computer, or a git repository that the server fetches. */
import { Button, FileButton, Group, SegmentedControl, TextInput } from "@mantine/core";
import { IconBrandGit, IconFolder } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { post, Problem, seg } from "~/api/client";
import type { components } from "~/api/schema";
import { belongs } from "~/form/field";
import { bytes, plural } from "~/format/number";
import { Failure } from "~/shell/Panel";
import { codeOf, upload, type Picked } from "./upload";
import css from "./NewRun.module.css";

type FromGit = components["schemas"]["GitSnapshotOut"];

/** Code that was chosen: its files, how it becomes a snapshot, and what is recorded of where it came from. */
export interface Code {
  paths: readonly string[];
  snapshot: (project: string, onProgress?: (share: number) => void) => Promise<string>;
  origin: Record<string, string>;
}

/** The script that a folder is probably about. */
export function mainScript(paths: readonly string[]): string {
  const scripts = paths.filter((path) => path.endsWith(".py"));
  return scripts.find((path) => /^(train|main)\.py$/.test(path)) ?? scripts.find((path) => !path.includes("/")) ?? scripts[0] ?? "";
}

export function CodeSource({ project, note, onCode }: { project: string; note: string; onCode: (code: Code | null) => void }) {
  const [kind, setKind] = useState("folder");
  return (
    <div className={css.fields}>
      <Group gap={10}>
        <SegmentedControl aria-label="Where the code is" value={kind} onChange={(next) => { setKind(next); onCode(null); }} data={[{ value: "folder", label: "Folder" }, { value: "git", label: "Git repository" }]} />
        {kind === "folder" && <Folder note={note} onCode={onCode} />}
      </Group>
      {kind === "git" && <Git project={project} onCode={onCode} />}
    </div>
  );
}

function Folder({ note, onCode }: { note: string; onCode: (code: Code) => void }) {
  const [picked, setPicked] = useState<Picked[]>([]);
  const choose = (files: File[]) => {
    const code = codeOf(files);
    setPicked(code);
    onCode({ paths: code.map(({ path }) => path), snapshot: (project, onProgress) => upload(project, code, onProgress), origin: {} });
  };
  return (
    <>
      <FileButton multiple onChange={choose} inputProps={{ webkitdirectory: "", "aria-label": "Folder of code" } as never}>
        {(props) => <Button variant="default" leftSection={<IconFolder size={14} />} {...props}>Choose a folder</Button>}
      </FileButton>
      <span className="dim">{picked.length > 0 ? `${plural(picked.length, "file")}, ${bytes(picked.reduce((sum, each) => sum + each.file.size, 0))}; caches and environments are left out` : note}</span>
    </>
  );
}

function Git({ project, onCode }: { project: string; onCode: (code: Code | null) => void }) {
  const [asked, setAsked] = useState({ url: "", ref: "", folder: "" });
  const fetching = useMutation({
    meta: { shown: true },
    mutationFn: () => post<FromGit>(`/api/v1/projects/${seg(project)}/snapshots/git`, asked),
    onSuccess: (made) => onCode({ paths: made.paths, snapshot: () => Promise.resolve(made.id), origin: { commit: made.commit, remote: made.url, ...(asked.ref ? { branch: asked.ref } : {}) } }),
  });
  const set = (more: Partial<typeof asked>) => { setAsked({ ...asked, ...more }); fetching.reset(); onCode(null); };
  const problem = fetching.error instanceof Problem ? fetching.error : null;
  const error = (field: string) => (problem && belongs(problem.field, field) ? `${problem.message} ${problem.remedy}`.trim() : undefined);
  const fetchNow = () => asked.url && fetching.mutate();
  const onEnter = (event: React.KeyboardEvent) => { if (event.key === "Enter") { event.preventDefault(); fetchNow(); } };
  const made = fetching.data;
  return (
    <>
      <div className={css.git}>
        <TextInput label="Address" placeholder="https://github.com/owner/name.git" value={asked.url} spellCheck={false} onChange={(event) => set({ url: event.currentTarget.value })} onKeyDown={onEnter} error={error("url")} />
        <TextInput label="Branch, tag or commit" placeholder="the default branch" value={asked.ref} spellCheck={false} onChange={(event) => set({ ref: event.currentTarget.value })} onKeyDown={onEnter} error={error("ref")} />
        <TextInput label="Only the folder" placeholder="all of it" value={asked.folder} spellCheck={false} onChange={(event) => set({ folder: event.currentTarget.value })} onKeyDown={onEnter} error={error("folder")} />
        <Button mt={22} variant="default" leftSection={<IconBrandGit size={14} />} disabled={!asked.url} loading={fetching.isPending} onClick={fetchNow}>Fetch</Button>
      </div>
      {problem && !["url", "ref", "folder"].some((field) => belongs(problem.field, field)) && <Failure error={problem} />}
      {made && <p className="dim" role="status">{plural(made.paths.length, "file")} at <code>{made.commit.slice(0, 12)}</code></p>}
    </>
  );
}
