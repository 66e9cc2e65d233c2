/** The whole platform: users, projects, and everything that was changed by whom. */
import { Badge, Button, PasswordInput, SegmentedControl, Switch, TextInput } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { all, get, patch, post, seg, type Page } from "~/api/client";
import { projectsQuery, useMe } from "~/api/session";
import type { AuditEntry, User } from "~/api/types";
import { useForm } from "~/form/useForm";
import { fullTime } from "~/format/time";
import { Failure, Loaded, Panel } from "~/shell/Panel";
import { NotFound } from "~/shell/NotFound";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { AllQuotas } from "../settings/Quotas";
import css from "../settings/Settings.module.css";

const SECTIONS = [{ value: "users", label: "Users" }, { value: "projects", label: "Projects" }, { value: "quotas", label: "Quotas" }, { value: "audit", label: "Audit log" }];

export function Admin() {
  const { section } = useParams({ strict: false }) as { section: string };
  const navigate = useNavigate();
  if (!SECTIONS.some(({ value }) => value === section)) return <NotFound />;
  return (
    <>
      <Title note="For admins of this platform" actions={<SegmentedControl aria-label="Section" data={SECTIONS} value={section} onChange={(value) => void navigate({ to: `/admin/${value}` as never })} />}>Administration</Title>
      {section === "users" ? <Users /> : section === "projects" ? <Projects /> : section === "quotas" ? <AllQuotas /> : <Audit />}
    </>
  );
}

function Users() {
  const me = useMe();
  const client = useQueryClient();
  const query = useQuery({ queryKey: ["users"], queryFn: ({ signal }) => all<User>("/api/v1/users", { signal }) });
  const refresh = () => void client.invalidateQueries({ queryKey: ["users"] });
  const change = useMutation({ mutationFn: ({ name, disabled }: { name: string; disabled: boolean }) => patch(`/api/v1/users/${seg(name)}`, { disabled }), onSuccess: refresh });
  const form = useForm({ name: "", display_name: "", password: "", is_admin: false }, (values) => post("/api/v1/users", { ...values, password: values.password || null }), refresh);
  const [nameError, passwordError] = [form.error("name"), form.error("password")];
  const rest = form.rest();
  return (
    <Panel title="Users" flush>
      <form className={css.add} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
        <TextInput aria-label="User name" placeholder="User name" required value={form.values.name} onChange={(event) => form.set("name", event.currentTarget.value)} error={nameError} />
        <TextInput aria-label="Display name" placeholder="Display name" value={form.values.display_name} onChange={(event) => form.set("display_name", event.currentTarget.value)} />
        <PasswordInput aria-label="Password" placeholder="Password" w={180} autoComplete="new-password" value={form.values.password} visibilityToggleButtonProps={{ "aria-label": "Show the password" }} onChange={(event) => form.set("password", event.currentTarget.value)} error={passwordError} />
        <Switch mt={6} label="Admin" checked={form.values.is_admin} onChange={(event) => form.set("is_admin", event.currentTarget.checked)} />
        <Button type="submit" loading={form.busy}>Add</Button>
        {rest && <Failure error={rest} />}
      </form>
      <Loaded query={query} height={200}>
        {(users) => (
          <table className={css.rows}>
            <thead><tr><th>User</th><th>Name</th><th>Role</th><th>Since</th><th>Account</th></tr></thead>
            <tbody>
              {users.map((user) => (
                <tr key={user.id} data-off={user.disabled_at ? "" : undefined}>
                  <td>{user.name}</td><td>{user.display_name}</td><td>{user.is_admin ? <Badge variant="light" tt="none" fw={500}>admin</Badge> : "user"}</td><td><Ago at={user.created_at} /></td>
                  <td>{user.name === me?.user ? "you" : <Button variant="default" size="compact-xs" onClick={() => change.mutate({ name: user.name, disabled: !user.disabled_at })}>{user.disabled_at ? "Enable" : "Disable"}</Button>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Loaded>
    </Panel>
  );
}

function Projects() {
  const client = useQueryClient();
  const query = useQuery(projectsQuery);
  const form = useForm({ name: "", description: "", department: "default" }, (values) => post("/api/v1/projects", values), () => void client.invalidateQueries({ queryKey: ["projects"] }));
  const [nameError, departmentError] = [form.error("name"), form.error("department")];
  const rest = form.rest();
  return (
    <Panel title="Projects" flush>
      <form className={css.add} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
        <TextInput aria-label="Name" placeholder="Name" required value={form.values.name} onChange={(event) => form.set("name", event.currentTarget.value)} error={nameError} />
        <TextInput aria-label="Description" placeholder="Description" w={320} value={form.values.description} onChange={(event) => form.set("description", event.currentTarget.value)} />
        <TextInput aria-label="Department" placeholder="Department" value={form.values.department} onChange={(event) => form.set("department", event.currentTarget.value)} error={departmentError} />
        <Button type="submit" loading={form.busy}>Create</Button>
        {rest && <Failure error={rest} />}
      </form>
      <Loaded query={query} height={200}>
        {(projects) => (
          <table className={css.rows}>
            <thead><tr><th>Project</th><th>Description</th><th>Department</th><th>Since</th></tr></thead>
            <tbody>
              {projects.map((project) => (
                <tr key={project.id}>
                  <td><Link className="name" to={`/p/${seg(project.name)}` as "/home"}>{project.name}</Link></td><td>{project.description || "–"}</td><td>{project.department}</td><td><Ago at={project.created_at} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Loaded>
    </Panel>
  );
}

function Audit() {
  const query = useInfiniteQuery({
    queryKey: ["audit"],
    queryFn: ({ pageParam, signal }) => get<Page<AuditEntry>>("/api/v1/audit", { limit: 100, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
  });
  const entries = query.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Panel title="Audit log" note="Every change, newest first" flush>
      {query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : (
        <table className={css.rows}>
          <thead><tr><th>When</th><th>Who</th><th>Did</th><th>What</th><th>Project</th><th className={css.detail}>Detail</th></tr></thead>
          <tbody>
            {entries.map((entry) => (
              <tr key={entry.id}>
                <td title={fullTime(entry.created_at)}><Ago at={entry.created_at} /></td><td>{entry.who}</td><td>{entry.action.replaceAll("_", " ")}</td><td>{entry.kind} <code>{entry.name}</code></td><td>{entry.project ?? "–"}</td>
                <td className={css.detail}>{Object.entries(entry.detail).map(([name, each]) => <span key={name}>{name} <code>{typeof each === "string" ? each.slice(0, 80) : JSON.stringify(each).slice(0, 80)}</code></span>)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {query.hasNextPage && <div style={{ padding: 12, textAlign: "center" }}><Button variant="default" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>Older</Button></div>}
    </Panel>
  );
}
