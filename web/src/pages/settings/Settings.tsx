/** A project's settings: members, invitations, tokens, secrets. */
import { ActionIcon, Alert, Button, Group, NumberInput, PasswordInput, Select, Tabs, TextInput } from "@mantine/core";
import { IconTrash } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";
import { all, post, put, remove, seg } from "~/api/client";
import { useProjects } from "~/api/session";
import type { Invitation, Member, NewInvitation, NewToken, Secret, Token } from "~/api/types";
import { Confirm } from "~/form/Confirm";
import { useForm } from "~/form/useForm";
import { Command, Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { ProjectQuota } from "./Quotas";
import css from "./Settings.module.css";

const ROLES = [
  { value: "viewer", label: "Viewer: sees" },
  { value: "developer", label: "Developer: runs, tunes, registers" },
  { value: "maintainer", label: "Maintainer: members, secrets" },
  { value: "admin", label: "Admin: everything" },
];

export function Settings() {
  const { project } = useParams({ strict: false }) as { project: string };
  const { tab = "members" } = useSearch({ strict: false }) as { tab?: string };
  const navigate = useNavigate();
  const role = useProjects()?.find((each) => each.name === project)?.role ?? "viewer";
  const maintains = role === "maintainer" || role === "admin";
  return (
    <>
      <Title note={`Your role here: ${role}`}>Settings of {project}</Title>
      <Tabs value={tab} onChange={(value) => void navigate({ search: { tab: value === "members" ? undefined : value } as never, replace: true } as never)} keepMounted={false}>
        <Tabs.List mb={12}>
          <Tabs.Tab value="members">Members</Tabs.Tab>
          {maintains && <Tabs.Tab value="invitations">Invitations</Tabs.Tab>}
          {role !== "viewer" && <Tabs.Tab value="secrets">Secrets</Tabs.Tab>}
          <Tabs.Tab value="quota">Quota</Tabs.Tab>
          <Tabs.Tab value="tokens">My tokens</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="members"><Members project={project} maintains={maintains} /></Tabs.Panel>
        <Tabs.Panel value="invitations"><Invitations project={project} /></Tabs.Panel>
        <Tabs.Panel value="secrets"><Secrets project={project} maintains={maintains} /></Tabs.Panel>
        <Tabs.Panel value="quota"><ProjectQuota project={project} /></Tabs.Panel>
        <Tabs.Panel value="tokens"><Tokens project={project} /></Tabs.Panel>
      </Tabs>
    </>
  );
}

/** A list that is read from `path` and changed by what is beside it. */
function useList<T>(key: readonly unknown[], path: string) {
  const client = useQueryClient();
  const query = useQuery({ queryKey: key, queryFn: ({ signal }) => all<T>(path, { signal }) });
  const refresh = () => void client.invalidateQueries({ queryKey: key });
  const change = useMutation({ mutationFn: (action: () => Promise<unknown>) => action(), onSuccess: refresh });
  return { query, refresh, change };
}

function Rows({ heads, children }: { heads: readonly string[]; children: ReactNode }) {
  return (
    <table className={css.rows}>
      <thead><tr>{heads.map((head) => <th key={head}>{head || <span className="visually-hidden">Actions</span>}</th>)}</tr></thead>
      <tbody>{children}</tbody>
    </table>
  );
}

function Trash({ title, children, action, onYes }: { title: string; children: ReactNode; action: string; onYes: () => void }) {
  return <Confirm title={title} action={action} onYes={onYes} trigger={(open) => <ActionIcon aria-label={title} onClick={open}><IconTrash size={15} stroke={1.6} /></ActionIcon>}>{children}</Confirm>;
}

function Members({ project, maintains }: { project: string; maintains: boolean }) {
  const path = `/api/v1/projects/${seg(project)}/members`;
  const { query, refresh, change } = useList<Member>(["members", project], path);
  const form = useForm({ user: "", role: "developer" }, (values) => put(`${path}/${seg(values.user)}`, { role: values.role }), refresh);
  const [userError, roleError] = [form.error("user") ?? form.error("name"), form.error("role")];
  const rest = form.rest();
  return (
    <Panel title="Members" flush>
      {maintains && (
        <form className={css.add} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
          <TextInput aria-label="User" placeholder="User name" required value={form.values.user} onChange={(event) => form.set("user", event.currentTarget.value)} error={userError} />
          <Select aria-label="Role" data={ROLES} w={260} value={form.values.role} onChange={(value) => form.set("role", value ?? "viewer")} error={roleError} />
          <Button type="submit" loading={form.busy}>Add</Button>
          {rest && <Failure error={rest} />}
        </form>
      )}
      <Loaded query={query} height={160}>
        {(members) => (
          <Rows heads={["User", "Role", "Since", ""]}>
            {members.map((member) => (
              <tr key={member.id}>
                <td>{member.user}</td>
                <td>{maintains ? <Select aria-label={`Role of ${member.user}`} data={ROLES} w={260} value={member.role} onChange={(role) => change.mutate(() => put(`${path}/${seg(member.user)}`, { role }))} /> : member.role}</td>
                <td><Ago at={member.created_at} /></td>
                <td>{maintains && <Trash title={`Remove ${member.user}?`} action="Remove" onYes={() => change.mutate(() => remove(`${path}/${seg(member.user)}`))}>They lose access to {project}; their runs stay.</Trash>}</td>
              </tr>
            ))}
          </Rows>
        )}
      </Loaded>
    </Panel>
  );
}

function Invitations({ project }: { project: string }) {
  const path = `/api/v1/projects/${seg(project)}/invitations`;
  const { query, refresh, change } = useList<Invitation>(["invitations", project], path);
  const [made, setMade] = useState<NewInvitation | null>(null);
  const form = useForm({ role: "developer", expires_in_days: 7 }, (values) => post<NewInvitation>(path, values), (invitation) => { setMade(invitation); refresh(); });
  const daysError = form.error("expires_in_days");
  const rest = form.rest();
  return (
    <Panel title="Invitations" note="Whoever has the link makes an account with this role" flush>
      <form className={css.add} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
        <Select aria-label="Role" data={ROLES} w={260} value={form.values.role} onChange={(value) => form.set("role", value ?? "viewer")} />
        <NumberInput aria-label="Valid for days" w={130} suffix=" days" min={1} max={90} value={form.values.expires_in_days} onChange={(value) => form.set("expires_in_days", Number(value))} error={daysError} />
        <Button type="submit" loading={form.busy}>Invite</Button>
        {rest && <Failure error={rest} />}
      </form>
      {made && <Alert m={12} variant="light" title="Send this link. It is shown this once."><Command text={made.url} /></Alert>}
      <Loaded query={query} height={120}>
        {(items) => items.length === 0 ? <Empty title="No invitation is open" command={`narf project invite ${project}`} /> : (
          <Rows heads={["Role", "By", "Made", "Expires", "Used by", ""]}>
            {items.map((each) => (
              <tr key={each.id}>
                <td>{each.role}</td><td>{each.created_by}</td><td><Ago at={each.created_at} /></td><td>{new Date(each.expires_at).toLocaleDateString()}</td><td>{each.used_by ?? "–"}</td>
                <td><Trash title="Take this invitation back?" action="Take back" onYes={() => change.mutate(() => remove(`${path}/${each.id}`))}>Its link stops working.</Trash></td>
              </tr>
            ))}
          </Rows>
        )}
      </Loaded>
    </Panel>
  );
}

function Secrets({ project, maintains }: { project: string; maintains: boolean }) {
  const path = `/api/v1/projects/${seg(project)}/secrets`;
  const { query, refresh, change } = useList<Secret>(["secrets", project], path);
  const form = useForm({ name: "", value: "" }, (values) => put(`${path}/${seg(values.name)}`, { value: values.value }), () => { form.set("value", ""); refresh(); });
  const [nameError, valueError] = [form.error("name"), form.error("value")];
  const rest = form.rest();
  return (
    <Panel title="Secrets" note="Only workloads read their values" flush>
      {maintains && (
        <form className={css.add} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
          <TextInput aria-label="Name of the secret" placeholder="Name" required value={form.values.name} onChange={(event) => form.set("name", event.currentTarget.value)} error={nameError} />
          <PasswordInput aria-label="Value" placeholder="Value" w={260} required autoComplete="off" value={form.values.value} visibilityToggleButtonProps={{ "aria-label": "Show the value" }} onChange={(event) => form.set("value", event.currentTarget.value)} error={valueError} />
          <Button type="submit" loading={form.busy}>Set</Button>
          {rest && <Failure error={rest} />}
        </form>
      )}
      <Loaded query={query} height={120}>
        {(items) => items.length === 0 ? <Empty title="No secrets" command={`narf secret set WANDB_API_KEY --project ${project}`}>Passwords and keys that workloads use, encrypted where they are kept.</Empty> : (
          <Rows heads={["Name", "Set by", "Set", ""]}>
            {items.map((each) => (
              <tr key={each.id}>
                <td><code>{each.name}</code></td><td>{each.created_by}</td><td><Ago at={each.created_at} /></td>
                <td>{maintains && <Trash title={`Delete ${each.name}?`} action="Delete" onYes={() => change.mutate(() => remove(`${path}/${seg(each.name)}`))}>Workloads that use it cannot start any more.</Trash>}</td>
              </tr>
            ))}
          </Rows>
        )}
      </Loaded>
    </Panel>
  );
}

function Tokens({ project }: { project: string }) {
  const { query, refresh, change } = useList<Token>(["tokens"], "/api/v1/tokens");
  const [made, setMade] = useState<NewToken | null>(null);
  const form = useForm(
    { name: "", role_limit: "developer", expires_in_days: 90, here: "all" },
    ({ here, ...values }) => post<NewToken>("/api/v1/tokens", { ...values, projects: here === "all" ? null : [project] }),
    (token) => { setMade(token); refresh(); },
  );
  const [nameError, daysError] = [form.error("name"), form.error("expires_in_days")];
  const rest = form.rest();
  return (
    <Panel title="My tokens" note="For the command line, MLflow clients and programs" flush>
      <form className={css.add} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
        <TextInput aria-label="Name of the token" placeholder="What it is for" required value={form.values.name} onChange={(event) => form.set("name", event.currentTarget.value)} error={nameError} />
        <Select aria-label="Reach" w={240} data={ROLES} value={form.values.role_limit} onChange={(value) => form.set("role_limit", value ?? "viewer")} />
        <Select aria-label="Projects" w={170} data={[{ value: "all", label: "All my projects" }, { value: "here", label: `Only ${project}` }]} value={form.values.here} onChange={(value) => form.set("here", value ?? "all")} />
        <NumberInput aria-label="Valid for days" w={120} suffix=" days" min={1} value={form.values.expires_in_days} onChange={(value) => form.set("expires_in_days", Number(value))} error={daysError} />
        <Button type="submit" loading={form.busy}>Create</Button>
        {rest && <Failure error={rest} />}
      </form>
      {made && <Alert m={12} variant="light" title="Copy it now: it is shown this once."><Group><Command text={made.token} /></Group></Alert>}
      <Loaded query={query} height={120}>
        {(items) => items.length === 0 ? <Empty title="No tokens" command="narf token create laptop" /> : (
          <Rows heads={["Name", "Reach", "Projects", "Made", "Expires", ""]}>
            {items.map((each) => (
              <tr key={each.id} data-off={each.revoked_at ? "" : undefined}>
                <td>{each.name}</td><td>{each.role_limit}</td><td>{each.projects?.join(", ") ?? "all"}</td><td><Ago at={each.created_at} /></td>
                <td>{each.revoked_at ? "revoked" : each.expires_at ? new Date(each.expires_at).toLocaleDateString() : "never"}</td>
                <td>{!each.revoked_at && <Trash title={`Revoke ${each.name}?`} action="Revoke" onYes={() => change.mutate(() => remove(`/api/v1/tokens/${each.id}`))}>What uses it stops working at once.</Trash>}</td>
              </tr>
            ))}
          </Rows>
        )}
      </Loaded>
    </Panel>
  );
}
