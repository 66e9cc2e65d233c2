import { ActionIcon, Menu, Select, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { IconLogout, IconMoon, IconSearch, IconSun } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useLocation, useNavigate } from "@tanstack/react-router";
import { Fragment, useSyncExternalStore } from "react";
import { seg } from "~/api/client";
import { signOut, useMe, useProjects } from "~/api/session";
import { openPalette } from "./Palette";
import css from "./Shell.module.css";

const names: Record<string, string> = {
  home: "Home", workloads: "Workloads", runs: "Runs", compare: "Compare", tuning: "Tuning", models: "Models", endpoints: "Endpoints", data: "Data",
  cluster: "Cluster", settings: "Settings", admin: "Administration", new: "New", users: "Users", projects: "Projects", audit: "Audit log", quotas: "Quotas",
};

export function Header({ project }: { project: string | null }) {
  const me = useMe();
  const projects = useProjects() ?? [];
  const navigate = useNavigate();
  const client = useQueryClient();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme("light");
  const leave = async () => {
    await signOut(client);
    await navigate({ to: "/login" as never });
  };
  return (
    <header className={css.header}>
      <Select
        aria-label="Project"
        className={css.switcher}
        data={projects.map((each) => each.name)}
        value={project}
        placeholder="No project yet"
        searchable={projects.length > 7}
        onChange={(name) => void (name && navigate({ to: `/p/${seg(name)}` as never }))}
      />
      <Breadcrumb />
      <span className={css.grow} />
      <button type="button" className={css.search} onClick={openPalette} aria-keyshortcuts="Control+K Meta+K">
        <IconSearch size={14} stroke={1.8} aria-hidden />
        <span>Search or jump to…</span>
        <kbd>{/Mac/.test(navigator.userAgent) ? "⌘K" : "Ctrl K"}</kbd>
      </button>
      <ActionIcon aria-label={scheme === "dark" ? "Use the light theme" : "Use the dark theme"} onClick={() => setColorScheme(scheme === "dark" ? "light" : "dark")}>
        {scheme === "dark" ? <IconSun size={16} stroke={1.7} /> : <IconMoon size={16} stroke={1.7} />}
      </ActionIcon>
      <Menu position="bottom-end" width={200}>
        <Menu.Target>
          <button type="button" className={css.user} aria-label={`Account of ${me?.display_name ?? ""}`}>{initials(me?.display_name ?? "?")}</button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label>{me?.display_name}{me?.is_admin ? " · admin" : ""}</Menu.Label>
          <Menu.Item leftSection={<IconLogout size={14} />} onClick={() => void leave()}>Sign out</Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </header>
  );
}

/** The name of the object at this address, once the page has read it; until then the beginning of its id. */
function useName(parts: readonly string[]): string | null {
  const [section, id = ""] = [parts[2] ?? "", parts[3]];
  const kind = { runs: "run", workloads: "workload", tuning: "study" }[section] ?? "";
  const client = useQueryClient();
  const name = useSyncExternalStore(
    (change) => client.getQueryCache().subscribe(change),
    () => client.getQueryData<{ name?: string }>(kind === "study" ? [kind, id, ""] : [kind, id])?.name,
  );
  if (!kind || !id || id === "new") return null;
  return name || (id.length > 12 ? `${id.slice(0, 8)}…` : id);
}

function Breadcrumb() {
  const { pathname } = useLocation();
  const parts = pathname.split("/").filter(Boolean);
  const from = parts[0] === "p" ? 2 : 0;
  const shown = parts.slice(from).map((part, i) => ({ text: decodeURIComponent(part), to: `/${parts.slice(0, from + i + 1).join("/")}`, last: i === parts.length - from - 1 }));
  const name = useName(parts);
  const end = shown.at(-1);
  if (end && name !== null && parts.length === 4) end.text = name;
  if (parts[0] === "p" && shown.length === 0) shown.push({ text: "Overview", to: pathname, last: true });
  return (
    <nav aria-label="Breadcrumb" className={css.crumbs}>
      {shown.map(({ text, to, last }) => (
        <Fragment key={to}>
          <span aria-hidden className={css.slash}>/</span>
          {last || to === "/admin" ? <span aria-current={last ? "page" : undefined} className={`truncate ${css.crumb}`}>{names[text] ?? text}</span> : <Link to={to as "/home"} className={`truncate ${css.crumb}`}>{names[text] ?? text}</Link>}
        </Fragment>
      ))}
    </nav>
  );
}

const initials = (name: string) => name.split(/[\s._-]+/).filter(Boolean).slice(0, 2).map((word) => word[0]?.toUpperCase()).join("") || "?";
